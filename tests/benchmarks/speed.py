"""Speed of the attack engine and of the pipeline; `make bench`. Ratios are taken within one run.

The engine part needs the trained AT model of the digits study (`make repro`); --pipeline also times
the pipeline's own commands in a throw-away copy of the repository.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "stages"))

import torch  # noqa: E402

from tla.core.attacks import LOSSES, attack_linf, pgd_linf, random_start  # noqa: E402
from tla.core.chance import stream  # noqa: E402
from tla.core.data import TEST  # noqa: E402
from tla.core.methods import LOSSES as METHODS  # noqa: E402
from tla.core.runtime import ModelStage  # noqa: E402
from tla.core.training import Trainer  # noqa: E402
from tla.params import parse_model  # noqa: E402


def seconds(function, repeats=5):
    """Median wall time of a call, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def engine():
    """PGD-2000 against PGD-100, and against the plain loop, on every seed of the AT model."""
    stage = ModelStage(__doc__, ["params.yaml", "--model", "at"])
    eps = stage.params.attack.eps
    for position, seed in enumerate(stage.params.seeds):
        network, test = stage.network(seed), stage.data.split(position, TEST)

        def logits(x, network=network):
            return network(x)[0]

        def run(steps, convention, network=network, test=test, logits=logits):
            return attack_linf(logits, test.x, test.y, eps=eps, step_size=eps / 10, steps=[steps],
                               loss=LOSSES["cross_entropy"], targets=None, random_init=True, restarts=1,
                               momentum="none", decay=0.0, convention=convention,
                               generator=stream(0, "evaluation", stage.device))

        def plain(steps, test=test, logits=logits):
            start = random_start(test.x, eps, stream(0, "evaluation", stage.device))
            return pgd_linf(logits, test.x, test.y, eps=eps, step_size=eps / 10, steps=steps,
                            loss=LOSSES["cross_entropy"], start=start)

        for convention in ("worst", "last"):
            short, long = (seconds(lambda s=s, c=convention: run(s, c)) for s in (100, 2000))
            print(f"seed {seed} {convention:5}: PGD-2000 takes {long / short:4.2f}x PGD-100 "
                  f"({1000 * short:.0f} ms), plain loop of 100 steps {seconds(lambda: plain(100), 2) / short:4.2f}x")


def training(config):
    """A training step of each method relative to AT, and the minutes one core takes to train one seed."""
    stage = ModelStage(__doc__, [config, "--model", "at"])
    params, times = stage.params, {}
    for method in METHODS:
        for name in [f"tla-b{b}" for b in sorted({params.mining.batch, *params.ablation.batches})] \
                if method == "tla" else [method]:
            trainer = Trainer(params, parse_model(name, params), params.seeds[0], 0, stage.data)
            rows = torch.arange(params.train.batch)
            times[name] = seconds(lambda t=trainer, r=rows: t._step(r, 0), 30)
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
        shutil.rmtree(clone)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipeline", action="store_true", help="also time dvc repro from nothing (minutes)")
    parser.add_argument("--train", metavar="PARAMS", help="time only the training steps of this params.yaml")
    arguments = parser.parse_args()
    if arguments.train:
        training(arguments.train)
        sys.exit()
    engine()
    training("params.yaml")
    if arguments.pipeline:
        pipeline()
