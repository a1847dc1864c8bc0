"""Score every hyper-parameter trial of params.yaml on validation images under a strong attack.

Not part of the graph: it takes as long as the study. `make tune` writes
reports/<dataset>/tuning.csv; the values it favours are then written into params.yaml by hand.
"""

import argparse
import copy
import json
from itertools import product
from pathlib import Path

import pandas as pd

from tla.files import write_table
from tla.params import Params, UserError, check_params, read_yaml
from tla.train.chance import deterministic, stream
from tla.train.checkpoints import training_key
from tla.train.data import VALIDATION, Dataset
from tla.train.methods import load_study, with_methods
from tla.train.pgd import robust
from tla.train.resume import Resume
from tla.train.training import Trainer, train_model
from tla.workers import Opened, map_parallel


def prepared(dataset: str) -> Dataset:
    """The prepared images on the device that this process computes on, deterministically."""
    return Dataset(Path("data", dataset, "prepared"), deterministic())


def overridden(plain: dict, changes: dict) -> dict:
    """A copy of a params.yaml's content with dotted keys set."""
    plain = copy.deepcopy(plain)
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = plain
        for part in sections:
            section = section[part]
        section[name] = value
    return plain


def score(trial: Params, method: str, position: int, data: Dataset, name: str) -> dict:
    """Accuracies on validation images of one seed trained with the values of a trial."""
    seed = trial.seeds[position]
    resume = Resume(name, training_key(trial, method, position))
    network, _ = train_model(Trainer(trial, method, seed, position, data), resume, iter)
    resume.forget()
    held = data.split(position, VALIDATION)
    clean, survives = robust(
        lambda x: network(x)[0], held.x, held.y, trial.tune.attacks, eps=trial.attack.eps,
        generator=stream(seed, "evaluation", held.x.device))
    return {"seed": seed, "clean_accuracy": clean.double().mean().item(),
            "robust_accuracy": survives.double().mean().item()}


def summary(lines: list[dict]) -> pd.DataFrame:
    """One line a trial: means over seeds and the spread of robust accuracy."""
    trials = pd.DataFrame(lines).groupby(["method", "trial", "settings"], as_index=False)
    return trials.agg(
        clean_accuracy=("clean_accuracy", "mean"), robust_accuracy=("robust_accuracy", "mean"),
        robust_std=("robust_accuracy", "std"), seeds=("seed", "count"))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="params.yaml of the study")
    parser.add_argument("--method", action="append", help="only this method; may be repeated")
    arguments = parser.parse_args(argv)
    params, plain = load_study(arguments.config), read_yaml(arguments.config)
    if absent := sorted(set(params.tune.seeds) - set(params.seeds)):
        raise UserError(f"{arguments.config}: tune.seeds: not among the seeds: {absent}")
    images = Opened(prepared, params.dataset)

    def scored(run: tuple[str, int, int]) -> tuple[dict, Resume]:
        method, number, seed = run
        changes, position = params.tune.trials[method][number], params.seeds.index(seed)
        changed = check_params(overridden(plain, changes), arguments.config)
        trial = with_methods(changed, arguments.config)
        name = f"tune-{params.dataset}-{method}-{number}-{seed}"
        key = training_key(trial, method, position) + json.dumps(plain["tune"]["attacks"])
        finished = Resume(f"{name}-scored", key, seconds=0)
        if (line := finished.load(images.content.x.device)) is None:
            settings = " ".join(f"{key}={value}" for key, value in changes.items())
            line = {"method": method, "trial": number, "settings": settings}
            line |= score(trial, method, position, images.content, name)
            finished.keep(lambda: line)
        return line, finished

    chosen, runs = arguments.method or list(params.tune.trials), []
    for method in chosen:
        runs += product([method], range(len(params.tune.trials[method])), params.tune.seeds)
    results = map_parallel(scored, runs, "trials",
                           parallel=images.content.x.device.type == "cpu")

    means = summary([line for line, _ in results])
    table = Path("reports", params.dataset, "tuning.csv")
    if arguments.method and table.exists():
        others = pd.read_csv(table)
        means = pd.concat([others[~others.method.isin(chosen)], means])
    write_table(table, means.sort_values(["method", "trial"]))
    for _, resume in results:
        resume.forget()


if __name__ == "__main__":
    main()
