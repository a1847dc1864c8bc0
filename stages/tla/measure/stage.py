"""What the stages that measure start from: data, trained networks, samples of images, kept work."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from tla.measure.answers import Columns, check_model
from tla.measure.kept import code_of, digest_of, kept
from tla.params import Params, UserError
from tla.train.chance import deterministic
from tla.train.checkpoints import load_model, model_path
from tla.train.data import TEST, Dataset, Split
from tla.train.models import Classifier
from tla.workers import map_parallel

FITNESS_IMAGES = 100    # that a network is asked about before it is attacked


@dataclass(frozen=True)
class Job:
    """One measurement of one network: function(network, split, **settings) -> columns.

    It sees a sample of `images` of `part`, None = all. `passes`: how often it asks about an image,
    roughly; only the order of jobs hangs on it.
    """

    name: str
    seed: int
    part: int
    images: int | None
    passes: int
    function: Callable[..., Columns]
    settings: dict[str, object]


class Stage:
    """Device, data and folders of one study, and the trained networks of its models."""

    def __init__(self, params: Params):
        self.params, self.device = params, deterministic()
        folder = Path("data", params.dataset)
        self.data = Dataset(folder / "prepared", self.device)
        self.rows, self.embedding = folder / "rows", folder / "embedding"
        self.reports = Path("reports", params.dataset)
        self.fit: set[Path] = set()
        # On the cores of this machine, or one by one on its GPU.
        self.parallel = partial(map_parallel, parallel=self.device.type == "cpu")

    def network(self, model: str, seed: int) -> Classifier:
        """A trained network in evaluation mode. Raises UserError if it is unfit to be attacked."""
        path = model_path(self.params, model, seed)
        network = load_model(path, self.params, model).to(self.device)
        if path in self.fit:
            return network
        try:
            check_model(network, self.test(seed, FITNESS_IMAGES).x, self.data.classes)
        except ValueError as error:
            raise UserError(f"{path}: the model {error}") from None
        self.fit.add(path)
        return network

    def test(self, seed: int, images: int | None) -> Split:
        """A sample of the test images of a seed."""
        return self.sample(seed, TEST, images)

    def sample(self, seed: int, part: int, images: int | None) -> Split:
        """The first `images` of one permutation of a seed's images, None: all in file order.

        The permutation is the same for every model, and for seeds with the same images; a smaller
        sample is part of a larger one.
        """
        split = self.data.split(self.params.seeds.index(seed), part)
        if images is None:
            return split
        generator = torch.Generator().manual_seed(self.params.evaluate.sample_seed)
        order = torch.randperm(len(split.y), generator=generator)
        return split.take(order[:images].to(self.device))

    def kept(self, model: str, seed: int, name: str, key: dict,
             function: Callable[[], Columns]) -> Columns:
        """`kept.kept` in the place of one measurement of one network."""
        folder = Path("data", "kept", self.params.dataset, model, f"seed-{seed}")
        return kept(folder / f"{name}.safetensors", key, function)

    def key(self, model: str, seed: int, split: Split, function: Callable, settings: dict) -> dict:
        """All that decides what a function measures: weights, images, settings and code."""
        images = {"x": split.x, "y": split.y, "idx": split.idx}
        return {"weights": self.digest(model, seed), "images": digest_of(images),
                "function": function.__name__, "settings": settings,
                "code": code_of(function.__module__, "tla.train.models")}

    def digest(self, model: str, seed: int) -> str:
        """SHA-256 of a file of weights. Raises UserError where there is none."""
        path = model_path(self.params, model, seed)
        if not path.exists():
            raise UserError(f"{path}: no such model; run dvc repro, or dvc pull where it is stored")
        return digest_of(load_file(path))

    def measure(self, model: str, jobs: list[Job]) -> dict[tuple[str, int], pd.DataFrame]:
        """seed, idx, label and the columns of every job, by its name and seed; long jobs first.

        Every network is asked whether it is fit before the first is attacked.
        """
        for seed in sorted({job.seed for job in jobs}):
            self.network(model, seed)
        order = sorted(jobs, key=self._cost, reverse=True)
        frames = self.parallel(lambda job: self._frame(model, job), order, f"measuring {model}")
        return {(job.name, job.seed): frame for job, frame in zip(order, frames, strict=True)}

    def _cost(self, job: Job) -> int:
        return job.passes * (job.images or int((self.data.part[0] == job.part).sum()))

    def _frame(self, model: str, job: Job) -> pd.DataFrame:
        split = self.sample(job.seed, job.part, job.images)
        network = self.network(model, job.seed)     # refused, if need be, whatever is kept
        key = self.key(model, job.seed, split, job.function, job.settings)
        columns = self.kept(model, job.seed, job.name, key,
                            lambda: job.function(network, split, **job.settings))
        frame = {"seed": job.seed, "idx": split.idx.cpu().numpy(), "label": split.y.cpu().numpy()}
        return pd.DataFrame(frame | {name: column.numpy() for name, column in columns.items()})
