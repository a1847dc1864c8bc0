"""The training loop, one for all methods, and the rule that picks the checkpoint."""

import copy
import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tla.params import Params, Train, UserError, blamed
from tla.train.chance import stream, stream_seed
from tla.train.data import PARTS, TRAIN, Dataset, augment
from tla.train.methods import METHODS, parse_model
from tla.train.mining import Miner
from tla.train.models import network_of
from tla.train.pgd import Adversary, robust
from tla.train.ranks import part_of
from tla.train.resume import Resume


class Diverged(UserError):
    """The loss of a training, or a weight after it, is no finite number."""


@dataclass(frozen=True)
class Batch:
    """One step: clean images x, adversarial images x_adv, classes y, where triplets come from.

    Of several ranks each has its rows.
    """

    x: Tensor
    x_adv: Tensor
    y: Tensor
    smoothing: float
    miner: Miner | None

    def cross_entropy(self, logits: Tensor, reduction: str = "mean") -> Tensor:
        """That of the logits of this batch's images, with label smoothing."""
        return F.cross_entropy(logits, self.y, reduction=reduction, label_smoothing=self.smoothing)


def make_optimizer(model: nn.Module, train: Train, lr: float) -> torch.optim.Optimizer:
    """Adam or SGD; weight decay on kernels only, not on biases or batch norm (authors' config)."""
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": train.weight_decay},
              {"params": others, "weight_decay": 0.0}]
    _without_compiler(torch.optim.Optimizer)
    if train.optimizer == "adam":
        optimizer = torch.optim.Adam(groups, lr=lr)
    else:
        optimizer = torch.optim.SGD(groups, lr=lr, momentum=train.momentum)
    plain_step = inspect.unwrap(type(optimizer).step)
    optimizer.step = torch.no_grad()(partial(plain_step, optimizer))
    return optimizer


def _without_compiler(kind: type) -> None:
    """Take from PyTorch's optimisers what loads its compiler, 1.5 s a process, to step aside."""
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        setattr(kind, name, inspect.unwrap(getattr(kind, name)))


def lr_factor(train: Train, step: int, steps: int) -> float:
    """Learning rate at `step` of `steps` as a share of its peak."""
    if train.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / steps))
    if train.schedule == "triangular":
        return min(2 * (step + 1) / steps, 2 * (steps - step) / steps, 1)
    if train.schedule == "piecewise":
        epoch = step * train.epochs / steps
        return 0.1 ** sum(epoch >= m for m in train.milestones)
    return 1.0


class Trainer:
    """Trains one model of one seed. `epoch()` runs one; `best` holds the weights chosen so far."""

    def __init__(self, params: Params, name: str, seed: int, position: int, data: Dataset):
        self.params, self.name, self.seed = params, name, seed
        model = parse_model(name, params)
        self.method, self.weights = METHODS[model.method], params.methods[model.method]
        self.train, chosen = data.split(position, TRAIN), params.train.selection_images
        self.held = data.split(position, PARTS.index(chosen.part)).take(slice(chosen.first))
        device = self.train.x.device
        init = stream_seed(seed, "init")
        self.network = network_of(params, name, data.shape, data.classes, init).to(device)
        self.part = part_of(params, model.method, model.pool, self.network,
                            min(params.train.batch, len(self.train.x)))
        self.wrapped = self.part.wrap(self.network)
        self.optimizer = make_optimizer(self.network, params.train, self.weights.lr)
        self.streams = {use: stream(seed, use, device)
                        for use in ("shuffle", "augment", "attack", "mining")}
        self.miner = self._miner(model.pool) if model.pool else None
        self.steps_per_epoch = max(len(self.train.x) // params.train.batch, 1)
        self.epochs_done, self.log = 0, []
        self.best, self.best_score = None, (-1.0, -1.0)

    def epoch(self) -> None:
        """One pass over the training images; adds the epoch's row to the training log."""
        sums: dict[str, Tensor] = defaultdict(float)
        n, batch = len(self.train.x), self.params.train.batch
        order = torch.randperm(n, generator=self.streams["shuffle"], device=self.train.x.device)
        for step in range(self.steps_per_epoch):
            for key, value in self._step(order[step * batch: (step + 1) * batch], step).items():
                sums[key] += value.detach().double()    # read at the end: a GPU is not waited for
        self.epochs_done += 1
        row = {"seed": self.seed, "epoch": self.epochs_done}
        row |= {key: self.part.mean(value).item() / self.steps_per_epoch
                for key, value in sums.items()}
        self._refuse_diverged(row["loss"])
        last = self.epochs_done == self.params.train.epochs
        if last or self.epochs_done % self.params.train.validate_every == 0:
            row |= self._validate()
        self.log.append(row)

    def _refuse_diverged(self, loss: float) -> None:
        weights = torch.stack([p.isfinite().all() for p in self.network.parameters()])
        if not (math.isfinite(loss) and weights.all()):
            method = parse_model(self.name, self.params).method
            raise Diverged(f"{self.params.config}: methods.{method}.lr: {self.weights.lr} lets the "
                           f"loss of {self.name} seed {self.seed} become {loss} in epoch "
                           f"{self.epochs_done}, or weights infinite; try a lower one")

    def _step(self, rows: Tensor, step: int) -> dict[str, Tensor]:
        train, done = self.params.train, self.epochs_done * self.steps_per_epoch + step
        for group in self.optimizer.param_groups:
            factor = lr_factor(train, done, train.epochs * self.steps_per_epoch)
            group["lr"] = self.weights.lr * factor
        x, y = self._augmentation("augment")(self.train.x[rows]), self.train.y[rows]
        x, y = self.part.share(x), self.part.share(y)
        with self._precision():
            x_adv = self._images(x, y, done)
            batch = Batch(x, x_adv, y, train.label_smoothing, self.miner)
            loss, logs = self.method.loss(self.wrapped, batch, self.weights)
        self.optimizer.zero_grad()
        self.part.weigh(loss).backward()
        self.optimizer.step()
        return {"loss": loss} | logs

    def _precision(self) -> torch.autocast:
        """Where forward passes run in bfloat16, if the study trains so; weights stay in float32."""
        low = self.params.train.precision == "bfloat16"
        return torch.autocast(self.train.x.device.type, torch.bfloat16, enabled=low)

    def _images(self, x: Tensor, y: Tensor, done: int) -> Tensor:
        """What the method trains on; no gradient of a weight is prepared for meanwhile."""
        self.network.train(self.params.attack.mode == "training").requires_grad_(False)
        x_adv = self.method.images(self._adversary(done), x, y)
        self.network.train().requires_grad_(True)
        return x_adv

    def _adversary(self, done: int) -> Adversary:
        """The attack after so many steps; eps, and the step with it, grows linearly in the ramp."""
        attack, train = self.params.attack, self.params.train
        ramp = train.eps_ramp_epochs * self.steps_per_epoch
        eps = (min((done + 1) / ramp, 1.0) if ramp else 1.0) * attack.eps
        return Adversary(self._logits, eps, attack.rel_step_size * eps, attack.steps,
                         train.label_smoothing, self.streams["attack"], self.part)

    def _miner(self, pool: int) -> Miner:
        generator = self.streams["mining"]
        with blamed(self.params.config):
            return Miner(self.train.x, self.train.y, pool, self._augmentation("mining"), generator,
                         self.part)

    def _augmentation(self, use: str) -> Callable[[Tensor], Tensor]:
        """Crops and flips with random numbers of one use; it does not hold the trainer alive."""
        train = self.params.train
        return partial(augment, padding=train.crop_padding, flip=train.flip,
                       generator=self.streams[use])

    def _logits(self, x: Tensor) -> Tensor:
        return self.network(x)[0]

    def _validate(self) -> dict[str, float]:
        """Robust accuracy on the images that choose, with the same random starts at every epoch.

        The best checkpoint has the highest; clean accuracy and then the later epoch break ties.
        """
        self.network.eval()
        generator = stream(self.seed, "selection", self.held.x.device)
        clean, mask = robust(self._logits, self.held.x, self.held.y, self.params.train.selection,
                             eps=self.params.attack.eps, generator=generator)
        score = (mask.double().mean().item(), clean.double().mean().item())
        if score >= self.best_score:
            self.best, self.best_score = copy.deepcopy(self.network.state_dict()), score
        part = self.params.train.selection_images.part
        return {f"{part}_robust_accuracy": score[0], f"{part}_clean_accuracy": score[1]}

    def state(self) -> dict:
        """All that the next epoch depends on."""
        streams = {use: generator.get_state() for use, generator in self.streams.items()}
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                "streams": streams, "log": self.log, "epochs_done": self.epochs_done,
                "best": self.best, "best_score": self.best_score}

    def load_state(self, state: dict) -> None:
        """Continue where `state` was taken, to the same bits as if never stopped."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for use, generator in self.streams.items():
            generator.set_state(state["streams"][use].cpu())
        self.log, self.epochs_done = state["log"], state["epochs_done"]
        self.best, self.best_score = state["best"], tuple(state["best_score"])


def train_model(trainer: Trainer, resume: Resume,
                watch: Callable[[range], Iterable]) -> tuple[nn.Module, list[dict]]:
    """Train to the end; returns the chosen network and one log row per epoch.

    A run that was stopped continues from what `resume` last kept; the caller forgets it when all is
    done. `watch` hands out the epochs one by one, and may show how far they are.
    """
    if kept := resume.load(trainer.train.x.device):
        trainer.load_state(kept)
    trainer.part.agree(trainer.epochs_done, trainer.train.x.device)
    for _ in watch(range(trainer.epochs_done, trainer.params.train.epochs)):
        trainer.epoch()
        if trainer.part.rank == 0:
            resume.keep(trainer.state)
    trainer.network.load_state_dict(trainer.best)
    return trainer.network.eval(), trainer.log
