"""How cost grows: one curve for each thing that a study can have more of; `make bench`.

Time in seconds, and peak memory in MiB of a fresh process. Points of one curve are measured in
turn, round after round. PGD runs on the AT networks under the convention "last"; a step is one of
training on MNIST images.
"""

import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from attacks import Ours, pgd, plain_loop
from common import (
    HERE,
    REPORTS,
    STUDIES,
    Subject,
    digits,
    mnist,
    report,
    settle,
    spread,
    timed,
    trained,
)
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from memory import suite
from training import MNIST_TRAIN, Repeated, steps, with_model

from tla.params import Params
from tla.report.figures import SWEEP
from tla.train.methods import load_study
from tla.train.training import Trainer
from tla.workers import map_parallel

ROUNDS, STEPS = 3, 3     # STEPS: of training in one timing
BATCH = 1000            # images in a slice: evaluate.batch of mnist-fast
THROUGHPUT = 1.8        # of two workers, times that of one
FLAT = 1.2              # peak memory of many slices, times that of one
PIECES = 8              # of work, for the workers

Curve = dict[float, Callable[[], object]]       # amount -> what is timed


def images_curve(subject: Subject) -> Curve:
    """PGD-20 on MNIST."""
    return {n: partial(suite, subject, n, BATCH, 20) for n in (250, 500, 1000, 2000)}


def steps_curve(peer: Callable, subject: Subject, counts: list[int]) -> Curve:
    """PGD of so many steps on digits."""
    return {n: partial(peer, subject, pgd(n, 1, 0.1), 0) for n in counts}


def restarts_curve(peer: Ours, subject: Subject) -> Curve:
    """PGD-20 on digits."""
    return {n: partial(peer, subject, pgd(20, n, 0.1), 0) for n in (1, 2, 5, 10, 20, 50)}


def pool_curve(params: Params, data: Repeated) -> Curve:
    """A step of TLA with a pool of negatives of its own."""
    curve = {}
    for pool in (1, 100, 250, 500, 1000, 2000, 4000):
        name = f"tla-b{pool}"
        settings = with_model(params, name)
        curve[pool] = steps(Trainer(settings, name, params.seeds[0], 0, data), STEPS)
    return curve


def width_curve(params: Params, data: Repeated) -> Curve:
    """A step of AT where every layer is so many times as wide."""
    curve = {}
    for times in (0.5, 1, 2, 4):
        widths = [round(times * width) for width in params.model.widths]
        model = dataclasses.replace(params.model, widths=widths)
        settings = dataclasses.replace(params, model=model)
        curve[times] = steps(Trainer(settings, "at", params.seeds[0], 0, data), STEPS)
    return curve


def seeds_curve(params: Params, subject: Subject) -> Curve:
    """PGD-100 on the networks of so many seeds of the digits study, by one worker."""
    attack = pgd(100, 1, 0.1)
    others = []
    for seed in params.seeds:
        others.append(dataclasses.replace(subject, network=trained(params, seed)))

    def attacked(count):
        for other in others[:count]:
            Ours("last", "float32")(other, attack, 0)
    return {n: partial(attacked, n) for n in range(1, len(others) + 1)}


def by_workers(subject: Subject, cores: set[int]) -> None:
    """Pieces of work, PGD-20 on 256 MNIST images each, by one worker for each of these cores."""
    before, attack = os.sched_getaffinity(0), pgd(20, 1, 0.1)
    os.sched_setaffinity(0, cores)
    try:
        map_parallel(partial(Ours("last", "float32"), subject, attack), range(PIECES), "pieces")
    finally:
        os.sched_setaffinity(0, before)


def workers_curve(subject: Subject) -> Curve:
    """One core and, where there are, two."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    return {n: partial(by_workers, subject, set(cores[:n])) for n in range(1, len(cores) + 1)}


def measured(panel: str, curves: dict[str, Curve], rounds: int, unit: float) -> pd.DataFrame:
    """One line for each point of the curves of a panel, in units of so many seconds.

    The first round is not counted.
    """
    found = {}
    for round_ in range(-1, rounds):
        for name, curve in curves.items():
            for amount, function in curve.items():
                taken, _ = timed(function)
                if round_ >= 0:
                    found.setdefault((name, amount), []).append(taken / unit)
    lines = []
    for (name, amount), values in found.items():
        lines.append({"panel": panel, "curve": name, "amount": amount, **spread(values),
                      "limit": math.nan, "verdict": ""})
    return pd.DataFrame(lines)


def throughput(times: pd.DataFrame) -> pd.DataFrame:
    """What so many workers get done in the time that one needs for it, with the verdict on two."""
    one = times.value.iloc[0]
    table = times.assign(value=one / times.value, low=one / times.high, high=one / times.low)
    two = table.amount == 2
    table.loc[two, "limit"] = THROUGHPUT
    table.loc[two, "verdict"] = np.where(table.value[two] >= THROUGHPUT, "within", "over")
    return table


def peak_memory(images: int, batch: int) -> float:
    """MiB of a fresh process that runs PGD-3 on MNIST images."""
    command = [sys.executable, str(HERE / "memory.py"), str(images), str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory_curves(amounts: tuple[int, ...]) -> pd.DataFrame:
    """Peak memory where images are attacked by slices, and where all at once."""
    lines = []
    for curve, sliced in (("by slices", True), ("at once", False)):
        for images in amounts:
            value = peak_memory(images, BATCH if sliced else images)
            lines.append({"panel": "peak memory", "curve": curve, "amount": images, "value": value,
                          "low": value, "high": value, "limit": math.nan, "verdict": ""})
    table = pd.DataFrame(lines)
    last = (table.curve == "by slices") & (table.amount == max(amounts))
    table.loc[last, "limit"] = FLAT * table.value.iloc[0]
    table.loc[last, "verdict"] = np.where(table.value[last] <= table.limit[last], "within", "over")
    return table


def all_panels() -> pd.DataFrame:
    """Every line of the figure."""
    small, large = digits(), mnist()
    study, data = load_study(STUDIES["mnist"]), Repeated("mnist", MNIST_TRAIN)
    worst, last = Ours("worst", "float32"), Ours("last", "float32")
    counts = [10, 20, 50, 100, 200, 500, 1000, 2000]
    panels = {
        "images": {"PGD-20": images_curve(large)},
        "steps": {
            "worst": steps_curve(worst, small, counts), "last": steps_curve(last, small, counts),
            "plain loop": steps_curve(plain_loop, small, counts[:-2])},
        "restarts": {"worst": restarts_curve(worst, small), "last": restarts_curve(last, small)},
        "seeds": {"PGD-100": seeds_curve(load_study(STUDIES["digits"]), small)}}
    training = {"pool": {"TLA": pool_curve(study, data)}, "width": {"AT": width_curve(study, data)}}
    tables = [measured(panel, curves, ROUNDS, 1) for panel, curves in panels.items()]
    for panel, curves in training.items():
        tables.append(measured(panel, curves, ROUNDS, STEPS / 1000))
    working = measured("workers", {"throughput": workers_curve(large)}, ROUNDS, 1)
    tables.append(throughput(working))
    return pd.concat([*tables, memory_curves((1000, 4000, 8000))], ignore_index=True)


AXES = {    # panel -> its title, label of x and of y
    "images": ("PGD-20 on MNIST", "images", "seconds"),
    "steps": ("PGD on 256 digits", "steps", "seconds"),
    "restarts": ("PGD-20 on 256 digits", "restarts", "seconds"),
    "pool": ("training step of TLA on MNIST", "pool of negatives", "milliseconds"),
    "width": ("training step of AT on MNIST", "times the width of every layer", "milliseconds"),
    "seeds": ("PGD-100 on digits, one worker", "seeds", "seconds"),
    "workers": ("PGD-20 on MNIST, 8 pieces", "workers", "times that of one"),
    "peak memory": ("peak memory of PGD on MNIST", "images", "MiB")}
POWER = {"images", "steps", "restarts", "seeds", "width"}    # whose slope says something


def draw(table: pd.DataFrame) -> None:
    """Write reports/benchmarks/growth.png: a panel for each thing, 1,000 pixels wide."""
    figure, grid = plt.subplots(3, 3, figsize=(10, 8))
    for axes, (panel, labels) in zip(grid.flat, AXES.items(), strict=False):
        draw_panel(axes, panel, table[table.panel == panel], *labels)
    note = grid.flat[-1]
    note.axis("off")
    note.text(0, 0.5, f"Median of {ROUNDS} rounds, bars: extremes.\nOne thread a worker.\n"
              "n^a: slope of the logarithms\nover the whole curve.", va="center")
    REPORTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(REPORTS / "growth.png", dpi=100, metadata={"Software": None})
    plt.close(figure)


def draw_panel(axes: Axes, panel: str, table: pd.DataFrame, title: str, x: str, y: str) -> None:
    """Every curve of one panel, with its slope where that says something, and the limit."""
    for (colour, marker), (name, part) in zip(SWEEP, table.groupby("curve", sort=False),
                                              strict=False):
        if panel in POWER:
            name += f": n^{np.polyfit(np.log(part.amount), np.log(part.value), 1)[0]:.2f}"
        errors = [part.value - part.low, part.high - part.value]
        axes.errorbar(part.amount, part.value, yerr=errors, color=colour, marker=marker,
                      markersize=4, capsize=2, linewidth=1.2, label=name)
    for limit in table.limit.dropna():
        axes.axhline(limit, color="black", linewidth=0.8, linestyle=":", label="limit")
    if panel == "steps":        # three decades
        axes.set(xscale="log", yscale="log")
    else:
        axes.set_ylim(bottom=0)
    if panel in ("seeds", "workers"):
        axes.set_xticks(sorted(set(table.amount)))
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.legend(fontsize=8)


def main() -> None:
    settle()
    table = all_panels()
    report("growth", table)
    draw(table)


if __name__ == "__main__":
    main()
