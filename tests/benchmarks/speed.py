"""Speed of the attack engine and of the pipeline; `make bench`. Ratios are taken within one run.

The engine part needs the trained AT model of the digits study (`make repro`); --pipeline also times
the pipeline's own commands in a throw-away copy of the repository.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "stages"))

import torch  # noqa: E402

from tla.measure.engine import run_attack  # noqa: E402
from tla.measure.stage import Stage  # noqa: E402
from tla.params import Attack  # noqa: E402
from tla.train.chance import stream  # noqa: E402
from tla.train.methods import load_study  # noqa: E402
from tla.train.pgd import cross_entropy, pgd_linf, random_start  # noqa: E402
from tla.train.training import Trainer  # noqa: E402


def seconds(function, repeats=5):
    """Median wall time of a call, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def saving(network, test, eps, steps, convention):
    """The engine's PGD of so many steps."""
    attack = Attack("gradient", "cross_entropy", [steps], 0.1, True, 1, "none", 0.0)
    return run_attack(lambda x: network(x)[0], test.x, test.y, attack, eps=eps,
                      convention=convention, generator=stream(0, "evaluation", test.x.device))


def plain(network, test, eps, steps):
    """The same by the plain loop."""
    start = random_start(test.x, eps, stream(0, "evaluation", test.x.device))
    return pgd_linf(lambda x: network(x)[0], test.x, test.y, eps=eps, step_size=0.1 * eps,
                    steps=steps, loss=cross_entropy, start=start)


def engine():
    """PGD-2000 against PGD-100, and against the plain loop, on every seed of the AT model."""
    stage = Stage(load_study("params.yaml"))
    for seed in stage.params.seeds:
        about = stage.network("at", seed), stage.test(seed, None), stage.params.attack.eps
        loop = seconds(partial(plain, *about, 100), 2)
        for convention in ("worst", "last"):
            short = seconds(partial(saving, *about, 100, convention))
            long = seconds(partial(saving, *about, 2000, convention))
            print(f"seed {seed} {convention:5}: PGD-2000 takes {long / short:4.2f}x PGD-100 "
                  f"({1000 * short:.0f} ms), plain loop of 100 steps {loop / short:4.2f}x")


def training(config):
    """A step of each model relative to AT, and the minutes that one core trains a seed of it."""
    stage, times = Stage(load_study(config)), {}
    params = stage.params
    rows = torch.arange(params.train.batch)
    for name in params.models:
        trainer = Trainer(params, name, params.seeds[0], 0, stage.data)
        times[name] = seconds(partial(trainer._step, rows, 0), 30)
    steps = trainer.steps_per_epoch * params.train.epochs
    for name, value in times.items():
        print(f"{name:10} {1000 * value:6.1f} ms a step, {value / times['at']:4.2f}x AT, "
              f"{steps * value / 60:5.1f} minutes a seed without validation")


def pipeline():
    """The commands of a user, in a copy of the committed tree."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        for command in ("dvc repro", "dvc repro", "dvc exp run -S mining.batch=256"):
            start = time.perf_counter()
            subprocess.run(command.split(), cwd=clone, check=True, stdout=subprocess.DEVNULL)
            print(f"{command}: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipeline", action="store_true",
                        help="also time dvc repro from nothing (minutes)")
    parser.add_argument("--train", metavar="PARAMS",
                        help="time only the training steps of this params.yaml")
    arguments = parser.parse_args()
    if arguments.train:
        training(arguments.train)
        sys.exit()
    engine()
    training("params.yaml")
    if arguments.pipeline:
        pipeline()
