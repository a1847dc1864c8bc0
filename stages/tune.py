"""Score every hyper-parameter trial of params.yaml on validation images under a strong attack.

Not part of the graph: it takes as long as the study. `make tune` writes reports/<dataset>/tuning.csv;
the values it favours are then written into params.yaml by hand.
"""

import argparse
import copy
import json
from itertools import product
from pathlib import Path

import pandas as pd

from tla.core.attacks import robust
from tla.core.chance import stream
from tla.core.checkpoints import training_key
from tla.core.data import VALIDATION, Dataset
from tla.core.resume import Resume
from tla.core.runtime import map_parallel, setup
from tla.core.training import train_model
from tla.files import write_table
from tla.params import check_params, load_params, parse_model, read_yaml


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


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="params.yaml of the data set")
    parser.add_argument("--method", action="append", help="only this method; may be repeated")
    config = (arguments := parser.parse_args(argv)).config
    params, plain, device = load_params(config), read_yaml(config), setup()
    data = Dataset(Path("data", params.dataset, "prepared"), device)

    def score(method: str, number: int, changes: dict, position: int) -> tuple[dict, Resume]:
        trial, seed = check_params(overridden(plain, changes), config), params.seeds[position]
        model = parse_model(f"tla-b{trial.mining.batch}" if method == "tla" else method, trial)
        name, key = f"tune-{params.dataset}-{method}-{number}-{seed}", training_key(trial, model, position)
        finished = Resume(f"{name}-scored", key + json.dumps(plain["tune"]["attacks"]), seconds=0)
        if line := finished.load(device):
            return line, finished
        resume = Resume(name, key)
        network, _ = train_model(trial, model, seed, position, data, resume)
        resume.forget()
        held = data.split(position, VALIDATION)
        clean, survives = robust(lambda x: network(x)[0], held.x, held.y, params.tune.attacks,
                                 eps=params.attack.eps, generator=stream(seed, "evaluation", device))
        settings = " ".join(f"{key}={value}" for key, value in changes.items())
        line = {"method": method, "trial": number, "settings": settings, "seed": seed,
                "clean_accuracy": clean.double().mean().item(), "robust_accuracy": survives.double().mean().item()}
        finished.keep(lambda: line)
        return line, finished

    table = Path("reports", params.dataset, "tuning.csv")
    chosen = arguments.method or list(params.tune.trials)
    jobs = [(method, number, changes) for method in chosen for number, changes in enumerate(params.tune.trials[method])]
    runs = list(product(jobs, map(params.seeds.index, params.tune.seeds)))
    lines, finished = zip(*map_parallel(lambda run: score(*run[0], run[1]), runs, device, "trials"), strict=True)

    means = pd.DataFrame(lines).groupby(["method", "trial", "settings"], as_index=False).agg(
        clean_accuracy=("clean_accuracy", "mean"), robust_accuracy=("robust_accuracy", "mean"),
        robust_std=("robust_accuracy", "std"), seeds=("seed", "count"))
    if arguments.method and table.exists():
        others = pd.read_csv(table)
        means = pd.concat([others[~others.method.isin(chosen)], means])
    write_table(table, means.sort_values(["method", "trial"]))
    for resume in finished:
        resume.forget()


if __name__ == "__main__":
    main()
