"""What the stages that measure start from: data, trained networks, samples of images, kept work."""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tla.measure.answers import Columns, check_model
from tla.measure.draws import announced
from tla.measure.kept import kept
from tla.params import Params, UserError
from tla.sources import code_of
from tla.train.chance import deterministic, stream_seed
from tla.train.checkpoints import REMEDY, load_model, model_path
from tla.train.data import TEST, TRAIN, Dataset, Split
from tla.train.stored import digest_of, read_tensors
from tla.workers import map_parallel

FITNESS_IMAGES = 100    # that a network is asked about before it is attacked


@dataclass(frozen=True)
class Job:
    """One measurement of one network: function(network, split, **settings) -> columns.

    It sees a sample of `images` of `part`, None = all, and no more than `batch` of them in one
    call, None = all. `passes`: how often it asks about an image, roughly; only the order of work
    hangs on it.
    """

    name: str
    seed: int
    part: int
    images: int | None
    batch: int | None
    passes: int
    function: Callable[..., Columns]
    settings: dict[str, object]


@dataclass(frozen=True)
class Slice:
    """The `number`-th call of a job, from 0, on the images `start` to `stop` of its sample."""

    job: Job
    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Of what is kept; no name of a job holds a dot."""
        return f"{self.job.name}.{self.number}" if self.number else self.job.name

    @property
    def cost(self) -> int:
        """About how often it asks the network."""
        return self.job.passes * (self.stop - self.start)

    @property
    def settings(self) -> dict[str, object]:
        """Those of the job. Chance has a stream of its own in every slice, the job's in the first:
        what is drawn does not hang on who computes which."""
        settings = self.job.settings
        if not self.number or "seed" not in settings:
            return settings
        return settings | {"seed": stream_seed(settings["seed"], "evaluation", self.number)}


class Stage:
    """Device, data and folders of one study, and the trained networks of its models.

    `within`: the folder of a variant's models, whose parameters `params` then are.
    """

    def __init__(self, params: Params, within: str = ""):
        self.params, self.within, self.device = params, within, deterministic()
        folder = Path("data", params.dataset)
        self.data = Dataset(folder / "prepared", params, self.device)
        check_sizes(params, self.data)
        self.rows, self.embedding = folder / "rows", folder / "embedding"
        self.reports = Path("reports", params.dataset)
        self.fit: set[Path] = set()
        self.code: dict[str, str] = {}      # of modules, which take longer to read than to ask
        # On the cores of this machine, or one by one on its GPU.
        self.parallel = partial(map_parallel, parallel=self.device.type == "cpu")

    def __reduce__(self):
        """A worker elsewhere opens the study itself, once for all the work of one call."""
        return Stage, (self.params, self.within)

    def path(self, model: str, seed: int) -> Path:
        """Where the weights lie."""
        return model_path(self.params, model, seed, self.within)

    def network(self, model: str, seed: int) -> nn.Module:
        """A trained network in evaluation mode, ready to be attacked if it announces randomness.

        Raises UserError if it is unfit to be attacked.
        """
        path = self.path(model, seed)
        network = load_model(path, self.params, model, seed).to(self.device)
        network = announced(network, self.params.evaluate.draws, seed)
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
        folder = Path("data", "kept", self.params.dataset, self.within, model, f"seed-{seed}")
        return kept(folder / f"{name}.safetensors", key, function)

    def key(self, model: str, seed: int, split: Split, function: Callable, settings: dict) -> dict:
        """All that decides what a function measures: weights, images, settings and code."""
        images = {"x": split.x, "y": split.y, "idx": split.idx}
        return {"weights": self.digest(model, seed), "images": digest_of(images),
                "function": function.__name__, "settings": settings,
                "draws": self.params.evaluate.draws,
                "code": self._code(function.__module__)}

    def _code(self, module: str) -> str:
        if module not in self.code:
            self.code[module] = code_of(module, "tla.train.models", "tla.measure.draws")
        return self.code[module]

    def digest(self, model: str, seed: int) -> str:
        """SHA-256 of weights. Raises UserError where there are none."""
        return digest_of(read_tensors(self.path(model, seed), REMEDY)[0])

    def measure(self, model: str, jobs: list[Job]) -> dict[tuple[str, int], pd.DataFrame]:
        """seed, idx, label and the columns of every job, by its name and seed; long work first.

        Every network is asked whether it is fit before the first is attacked.
        """
        self.code.clear()       # it may have been edited since the last call
        for seed in sorted({job.seed for job in jobs}):
            self.network(model, seed)
        slices = []
        for job in jobs:
            slices += self._slices(job)
        slices.sort(key=lambda one: one.cost, reverse=True)
        frames = self.parallel(lambda one: self._frame(model, one), slices, f"measuring {model}")
        return _joined(slices, frames)

    def _slices(self, job: Job) -> list[Slice]:
        images = len(self.sample(job.seed, job.part, job.images).y)
        size = job.batch or images
        return [Slice(job, number, start, min(start + size, images))
                for number, start in enumerate(range(0, images, size))]

    def _frame(self, model: str, one: Slice) -> pd.DataFrame:
        job, settings = one.job, one.settings
        split = self.sample(job.seed, job.part, job.images).take(slice(one.start, one.stop))
        network = self.network(model, job.seed)     # refused, if need be, whatever is kept
        key = self.key(model, job.seed, split, job.function, settings)
        columns = self.kept(model, job.seed, one.name, key,
                            lambda: job.function(network, split, **settings))
        frame = {"seed": job.seed, "idx": split.idx.cpu().numpy(), "label": split.y.cpu().numpy()}
        return pd.DataFrame(frame | {name: _series(column) for name, column in columns.items()})


def check_sizes(params: Params, data: Dataset) -> None:
    """Raise UserError for numbers of parameters that there are too few images, or pixels, for."""
    train, test = ((data.part == part).sum(1).min().item() for part in (TRAIN, TEST))
    pixels, norms = math.prod(data.shape), params.norms
    for key, value, most, of in (
            ("detect.components", params.detect.components, train, "training images of a seed"),
            ("detect.neighbors", params.detect.neighbors, train, "training images of a seed"),
            ("neighbors.k", params.neighbors.k, train, "training images of a seed"),
            ("masking.surfaces", params.masking.surfaces, test, "test images of a seed"),
            ("norms.apgd.targets", norms.apgd.targets, data.classes - 1, "other classes"),
            ("norms.fmn.steps", norms.fmn.steps, pixels - 2, "pixels but two, where FMN fails"),
            ("norms.l0_radii", norms.l0_radii[-1], pixels, "pixels")):
        if value > most:
            raise UserError(f"{params.config}: {key}: {value} are more than the {most} {of}; lower "
                            "it")


def _series(column: Tensor) -> np.ndarray | list[np.ndarray]:
    """A column of a table: numbers, or an array an image."""
    return column.numpy() if column.ndim == 1 else list(column.numpy())


def _joined(slices: list[Slice], frames: list[pd.DataFrame]) -> dict[tuple[str, int], pd.DataFrame]:
    """The rows of every job by its name and seed, its slices below each other.

    A complaint in one slice is one about the network, and stands at all images.
    """
    parts = defaultdict(list)   # in order: the sort by cost is stable, and the last slice smallest
    for one, frame in zip(slices, frames, strict=True):
        parts[one.job.name, one.job.seed].append(frame)
    found = {}
    for place, below in parts.items():
        found[place] = rows = pd.concat(below, ignore_index=True)
        for name in rows.filter(regex="^complaint_"):
            rows[name] = rows[name].max()
    return found
