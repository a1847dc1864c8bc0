"""One model over several processes, ranks, that torchrun started, each on a device of its own.

Every rank draws what one process draws for the whole batch and computes on its part of the rows.
So random numbers do not depend on the number of ranks, and an update is that of one process, but
for the rounding of sums.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from tla.params import Params, UserError
from tla.train.models import has_batch_norm

TIMEOUT = timedelta(minutes=10)     # a rank that has waited for another so long fails


@contextmanager
def together() -> Iterator[None]:
    """Joins the processes of torchrun; does nothing where there is but one.

    Raises UserError where a machine has GPUs, but fewer than processes.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    if cuda := torch.cuda.is_available():
        local, devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= devices:
            raise UserError(f"torchrun: a process a GPU; use --nproc-per-node={devices}")
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT)
    yield
    distributed.destroy_process_group()     # not after an error: torchrun ends the other ranks


def rank() -> int:
    """This process's number; 0 writes the files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """How many processes train one model together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@dataclass(frozen=True)
class Part:
    """A rank's part of a batch of `whole` rows: the row `rank` and every `size`-th after it.

    Methods hand back what they are given where there is one rank.
    """

    rank: int
    size: int
    whole: int

    def share(self, rows: Tensor) -> Tensor:
        """This rank's rows of all rows [n, ...]."""
        return rows if self.size == 1 else rows[self.rank::self.size]

    def gather(self, rows: Tensor, n: int) -> Tensor:
        """All rows, [n, ...], of which each rank has its share; without gradient."""
        if self.size == 1:
            return rows
        every = rows.new_zeros(n, *rows.shape[1:])
        every[self.rank::self.size] = rows
        distributed.all_reduce(every)   # unequal shares; a sum with zeros is exact
        return every

    def rand_like(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """U(0, 1) for each pixel of this rank's images x, [n, ...], drawn for the whole batch."""
        n = len(x) if self.size == 1 else self.whole
        return self.share(torch.rand((n, *x.shape[1:]), generator=generator, device=x.device,
                                     dtype=x.dtype))

    def weigh(self, mean: Tensor) -> Tensor:
        """A mean over this rank's rows, so that its mean over ranks is that over the batch."""
        rows = len(range(self.rank, self.whole, self.size))
        return mean if self.size == 1 else mean * (rows * self.size / self.whole)

    def mean(self, mean: Tensor) -> Tensor:
        """The mean over the batch, of each rank's mean over its rows."""
        if self.size == 1:
            return mean
        total = self.weigh(mean)
        distributed.all_reduce(total)
        return total / self.size

    def wrap(self, network: nn.Module) -> nn.Module:
        """The same network, whose gradients become the mean over ranks.

        Its batch norm, if any, is made to take the statistics of the whole batch.
        """
        if self.size == 1:
            return network
        if has_batch_norm(network):
            nn.SyncBatchNorm.convert_sync_batchnorm(network)    # layers are replaced in place
        return nn.parallel.DistributedDataParallel(network, forward_sync_buffers=False)

    def agree(self, epochs: int, device: torch.device) -> None:
        """UserError where ranks have done different numbers of epochs: other files lie there."""
        if self.size > 1:
            done = self.gather(torch.tensor([epochs], device=device), self.size)
            if len(done.unique()) > 1:
                raise UserError("data/unfinished: is not the same for all processes; share the "
                                "repository's folder, or delete it everywhere")


ALONE = Part(0, 1, 0)


def part_of(params: Params, method: str, pool: int | None, network: nn.Module, whole: int) -> Part:
    """This process's part of batches of `whole` rows, with `pool` images to mine if it is one.

    Raises UserError where ranks would not add up to what one process computes.
    """
    part = Part(rank(), size(), whole)
    problem = _problem(params, method, pool, network, part) if part.size > 1 else None
    if problem:
        raise UserError(f"{params.config}: {problem}")
    return part


def _problem(params, method: str, pool: int | None, network, part: Part) -> str | None:
    """Why ranks cannot share the work, in words."""
    ranks, whole = part.size, part.whole
    if whole < ranks or 1 < (pool or 1) < ranks:    # with a pool of 1 each anchor has its own
        return f"train.batch, mining.batch: less than torchrun's {ranks} processes; start fewer"
    if has_batch_norm(network) and not next(network.parameters()).is_cuda:
        return (f"model.architecture: {params.model.architecture} has batch norm, which processes "
                "share on GPUs only; start one process, without torchrun")
    # Kurakin et al. divide by the numbers of both kinds of images: every part needs the same.
    adversarial = round(getattr(params.methods[method], "adversarial_share", 0) * whole)
    if adversarial and (adversarial % ranks or whole % ranks):
        return (f"train.batch: {adversarial} adversarial of {whole} images cannot be shared by "
                f"{ranks} processes equally; choose another batch, or start one process")
    return None
