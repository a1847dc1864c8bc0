"""A training step of every method beside one of adversarial training; `make bench`.

All methods take some steps in turn, round after round, and AT as many right before each of them:
the ratio is that to AT in the same precision. The MNIST study trains on the 256 images that are
stored beside this file, repeated to its number: what they show costs nothing.
"""

import dataclasses
from collections.abc import Callable

import pandas as pd
import torch
from common import (
    CPU,
    ROOT,
    STUDIES,
    report,
    settle,
    spread,
    stored_images,
    timed,
    verdict,
)

from tla.params import Params
from tla.train.data import TRAIN, Dataset, Split
from tla.train.methods import load_study
from tla.train.training import Trainer

PRECISIONS = ("float32", "bfloat16")
MNIST_TRAIN = 55_000                    # images that mnist-fast trains on
LIMITS = {"tla": 1.25, "tla-b2000": 1.6}    # times as long as AT
ROUNDS, STEPS = 7, {"digits": 5, "mnist": 3}


class Repeated:
    """Stored images [256, c, h, w] as a data set of as many as the study trains on."""

    def __init__(self, source: str, train: int):
        x, y = stored_images(source)
        self.shape, self.classes = tuple(x.shape[1:]), int(y.max()) + 1
        self.held = Split(x, y, torch.arange(len(y)))
        self.train = self.held.take(torch.arange(train) % len(y))

    def split(self, position: int, part: int) -> Split:
        """The images to train on, the same memory for every trainer, or those stored."""
        return self.train if part == TRAIN else self.held


def digits() -> tuple[Params, Dataset]:
    """The digits study and its images (make repro)."""
    params = load_study(STUDIES["digits"])
    return params, Dataset(ROOT / "data" / "digits" / "prepared", params, CPU)


def mnist() -> tuple[Params, Repeated]:
    """The mnist-fast study with a pool of 2000 beside its own, and the stored images."""
    params = with_model(load_study(STUDIES["mnist"]), "tla-b2000")
    return params, Repeated("mnist", MNIST_TRAIN)


def with_model(params: Params, name: str) -> Params:
    """The study with one more model, if it is not there."""
    models = params.models if name in params.models else [*params.models, name]
    return dataclasses.replace(params, models=models)


def trainers(params: Params, data: Dataset | Repeated) -> dict[tuple[str, str], Trainer]:
    """One of every model in each precision."""
    found = {}
    for precision in PRECISIONS:
        train = dataclasses.replace(params.train, precision=precision)
        settings = dataclasses.replace(params, train=train)
        for name in params.models:
            found[name, precision] = Trainer(settings, name, params.seeds[0], 0, data)
    return found


def steps(trainer: Trainer, count: int) -> Callable[[], None]:
    """So many steps on the first batch."""
    rows = torch.arange(trainer.params.train.batch)

    def run():
        for _ in range(count):
            trainer._step(rows, 0)
    return run


def race(contestants: dict[tuple[str, str], Trainer], rounds: int, count: int) -> pd.DataFrame:
    """One line for each model, precision and round: milliseconds of its step and of AT's.

    The first round is not counted.
    """
    lines = []
    for round_ in range(-1, rounds):
        for (model, precision), trainer in contestants.items():
            before, _ = timed(steps(contestants["at", precision], count))
            taken, _ = timed(steps(trainer, count))
            lines.append({"model": model, "precision": precision, "round": round_,
                          "ms": 1000 * taken / count, "ms_at": 1000 * before / count})
    table = pd.DataFrame(lines)
    return table[table["round"] >= 0]


def compared(runs: pd.DataFrame, network: str, study: str) -> pd.DataFrame:
    """Every model against AT, and against itself in float32.

    Limits are about the precision in which the study trains.
    """
    lines = []
    exact = runs[runs.precision == "float32"][["model", "round", "ms"]]
    beside = runs.merge(exact, on=["model", "round"], suffixes=("", "_float32"))
    for (model, precision), part in beside.groupby(["model", "precision"], sort=False):
        found = spread(list(part.ms / part.ms_at))
        limit = LIMITS.get(model) if precision == study else None
        lines.append({
            "network": network, "model": model, "precision": precision, "rounds": len(part),
            "ms": part.ms.median(), "of_at": found["value"], "low": found["low"],
            "high": found["high"], "of_float32": (part.ms / part.ms_float32).median(),
            "limit": limit, "verdict": verdict(found["value"], limit)})
    table = pd.DataFrame(lines)
    return table.assign(limit=table.limit.astype(float))


def main() -> None:
    settle()
    tables = []
    for network, study in {"digits": digits, "mnist": mnist}.items():
        params, data = study()
        runs = race(trainers(params, data), ROUNDS, STEPS[network])
        tables.append(compared(runs, network, params.train.precision))
    report("training", pd.concat(tables))


if __name__ == "__main__":
    main()
