"""What the benchmarks share: networks and their images, timing, limits and tables."""

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "stages"))

import pandas as pd  # noqa: E402
import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import Tensor  # noqa: E402

from tla.files import write_table  # noqa: E402
from tla.params import Model, Params, Precision, UserError  # noqa: E402
from tla.train.chance import deterministic  # noqa: E402
from tla.train.checkpoints import load_model, model_path  # noqa: E402
from tla.train.data import TEST, Dataset  # noqa: E402
from tla.train.methods import load_study  # noqa: E402
from tla.train.models import Classifier, build  # noqa: E402
from tla.train.pgd import cross_entropy, input_gradient  # noqa: E402
from tla.workers import _keep_freed_memory  # noqa: E402

HERE, REPORTS = Path(__file__).parent, ROOT / "reports" / "benchmarks"
CPU = torch.device("cpu")
IMAGES = 256            # of each data set, the same for every peer
LEAST = 0.2             # seconds that a timing of the bare pass goes on for
STUDIES = {"digits": ROOT / "params.yaml",
           "mnist": ROOT / "experiments" / "mnist-fast" / "params.yaml"}


@dataclass(frozen=True)
class Subject:
    """A network in evaluation mode, and images x [n, c, h, w] in [0, 1] with classes y [n]."""

    name: str
    network: Classifier
    x: Tensor
    y: Tensor
    eps: float
    precision: Precision    # in which the study attacks

    def logits(self, x: Tensor) -> Tensor:
        """Logits [n, classes] alone."""
        return self.network(x)[0]

    def first(self, images: int) -> "Subject":
        """The same network with fewer images."""
        return replace(self, x=self.x[:images], y=self.y[:images])


def settle() -> None:
    """One thread, deterministic, and memory kept: as the workers of a stage compute."""
    deterministic()
    _keep_freed_memory()


def digits() -> Subject:
    """The AT network of the digits study on test images of its first seed (make repro)."""
    params = load_study(STUDIES["digits"])
    test = Dataset(ROOT / "data" / "digits" / "prepared", params, CPU).split(0, TEST)
    test = test.take(slice(IMAGES))
    return Subject("digits", trained(params, params.seeds[0]), test.x, test.y, params.attack.eps,
                   params.evaluate.precision)


def mnist() -> Subject:
    """The AT network of mnist-fast's first seed on test images, both stored beside this file."""
    params = load_study(STUDIES["mnist"])
    x, y = stored_images("mnist")
    network = build(params.model, tuple(x.shape[1:]), 10, seed=0)
    network.load_state_dict(load_file(HERE / "mnist-at.safetensors"))
    return Subject("mnist", network.eval(), x, y, params.attack.eps, params.evaluate.precision)


def cifar10() -> Subject:
    """The residual network and the CIFAR-10 images that are stored beside this file."""
    path = stored("cifar10")
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
    x, y = stored_images("cifar10")
    network = build(Model(**about["model"]), tuple(x.shape[1:]), about["classes"], seed=0)
    weights = {}
    for name, tensor in load_file(path).items():
        if name.startswith("weights/"):
            weights[name.removeprefix("weights/")] = tensor     # float16 on disk: copied to float32
    network.load_state_dict(weights)
    return Subject("cifar10", network.eval(), x, y, about["eps"], Precision(**about["precision"]))


def trained(params: Params, seed: int) -> Classifier:
    """The AT network of one seed of digits. Raises UserError where it is not there."""
    return load_model(ROOT / model_path(params, "at", seed), params, "at", seed)


def stored(source: str) -> Path:
    """The file of images beside this one. Raises UserError where there is none."""
    path = HERE / f"{source}.safetensors"
    if not path.exists():
        raise UserError(f"{path}: no such file; make it with tests/benchmarks/make_cifar10.py")
    return path


def stored_images(source: str) -> tuple[Tensor, Tensor]:
    """x float32 [n, c, h, w] in [0, 1] and y int64 [n] of a file beside this one."""
    arrays = load_file(stored(source))
    return arrays["x"].float() / 255, arrays["y"].long()


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds of one call, and what it returned."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def bare_seconds(subject: Subject) -> float:
    """Wall seconds of one float32 forward pass and input gradient of all its images, the mean."""
    calls, start = 0, time.perf_counter()
    while calls < 2 or time.perf_counter() - start < LEAST:
        input_gradient(subject.logits, subject.x, subject.y, cross_entropy)
        calls += 1
    return (time.perf_counter() - start) / calls


def spread(values: list[float]) -> dict[str, float]:
    """Median and extremes of the rounds."""
    return {"value": statistics.median(values), "low": min(values), "high": max(values)}


def verdict(value: float, limit: float | None) -> str:
    """Whether a value keeps its limit; empty where it has none."""
    if limit is None or math.isnan(limit):
        return ""
    return "within" if value <= limit else "over"


def report(name: str, table: pd.DataFrame) -> None:
    """Print a table, then what is over its limit, and write reports/benchmarks/<name>.csv."""
    print(table.to_string(index=False, na_rep="", float_format="%.3f"))
    limited = table[table.verdict != ""]
    over = limited[limited.verdict == "over"]
    print(f"{name}: {len(limited) - len(over)} of {len(limited)} within their limits")
    if len(over):
        print(over.to_string(index=False, na_rep="", float_format="%.3f"))
    write_table(REPORTS / f"{name}.csv", table)
