"""Score every hyper-parameter trial of params.yaml on validation images under a strong attack.

Not part of the graph: it takes as long as the study, or longer. `make tune` writes
reports/<dataset>/tuning.csv; the values that win are then written into params.yaml by hand. Who is
right is kept under data/kept, a file for each trial and seed: a call that is stopped, or that asks
for one method, leaves what it finished to the next one.
"""

import tla.guard  # noqa: F401

from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from tla.command import config_parser
from tla.files import DIGITS, write_table
from tla.measure.answers import Columns
from tla.measure.kept import kept
from tla.params import Params, UserError
from tla.report.tuning import COLUMNS, best_first, read_trials, trials_path, winners
from tla.train.chance import stream
from tla.train.checkpoints import training_key
from tla.train.data import VALIDATION, Dataset
from tla.train.methods import (
    changed,
    load_study,
    parse_model,
    training_code,
    training_parameters,
)
from tla.train.pgd import robust
from tla.train.resume import Resume
from tla.train.training import Diverged, Trainer, train_model
from tla.train.trials import on_edge, trials
from tla.workers import Opened, map_parallel
from train import prepared


class Trial(NamedTuple):
    """Trial `number` of a method, from 0: what it changes, as text, and the study so changed."""

    method: str
    number: int
    settings: str
    params: Params


def all_trials(params: Params) -> list[Trial]:
    """The trials of every listed method with a space. Raises UserError for a value out of range."""
    found = []
    for method in [name for name in params.tune.space if name in params.models]:
        for number, changes in enumerate(trials(params.tune, method)):
            settings = " ".join(f"{key}={value}" for key, value in changes.items())
            trial = changed(params, changes, f"{params.config}: tune.space.{method}")
            parse_model(method, trial)
            found.append(Trial(method, number, settings, trial.trained_with(method)))
    return found


def answers(trial: Trial, position: int, data: Dataset, resume: Resume) -> Columns:
    """Who of the validation images is right, clean and under attack, after training one seed.

    Where training diverges, nobody.
    """
    params, held = trial.params, data.split(position, VALIDATION)
    seed = params.seeds[position]
    try:
        trainer = Trainer(params, trial.method, seed, position, data)
        network, _ = train_model(trainer, resume, iter)
    except Diverged:
        return {"clean": torch.zeros(len(held.y)), "robust": torch.zeros(len(held.y))}
    clean, survives = robust(
        lambda x: network(x)[0], held.x, held.y, params.tune.attacks, eps=params.attack.eps,
        generator=stream(seed, "evaluation", held.x.device))
    return {"clean": clean, "robust": survives}


def scored(trial: Trial, seed: int, data: Dataset) -> dict:
    """The accuracies of one seed of a trial, trained and attacked unless that is kept."""
    params, method = trial.params, trial.method
    position, name = params.seeds.index(seed), f"{method}-{trial.number}-{seed}"
    resume = Resume(f"tune-{params.dataset}-{name}", training_key(params, method, seed))
    key = {"training": training_parameters(params, method), "code": training_code(params, method),
           "seed": seed, "position": position, "attacks": params.tune.attacks}
    path = Path("data", "kept", params.dataset, "trials", f"{name}.safetensors")
    right = kept(path, key, partial(answers, trial, position, data, resume))
    resume.forget()
    return {"method": method, "trial": trial.number, "settings": trial.settings, "seed": seed,
            "clean_accuracy": right["clean"].double().mean().item(),
            "robust_accuracy": right["robust"].double().mean().item()}


def summary(lines: list[dict], params: Params) -> pd.DataFrame:
    """One line a trial: means over its seeds, the spread of robust accuracy; the best of a method,
    by the numbers as they are written, with the keys that lie on the edge of their range."""
    found = pd.DataFrame(lines).groupby(["method", "trial", "settings"], as_index=False).agg(
        clean_accuracy=("clean_accuracy", "mean"), robust_accuracy=("robust_accuracy", "mean"),
        robust_std=("robust_accuracy", "std"), seeds=("seed", "count"))
    found = found.round(DIGITS).assign(edge="")
    for best in winners(found).itertuples():
        found.loc[best.Index, "edge"] = " ".join(on_edge(params.tune, best.method, best.trial))
    return found[list(COLUMNS)]


def better_half(chosen: list[Trial], means: pd.DataFrame) -> list[Trial]:
    """Of each method's trials, which had the same seeds, the more accurate half, rounded up."""
    left = []
    for method in dict.fromkeys(trial.method for trial in chosen):
        own = [trial for trial in chosen if trial.method == method]
        ranked = best_first(means[means.method == method]).trial
        kept_on = set(ranked.head((len(own) + 1) // 2))
        left += [trial for trial in own if trial.number in kept_on]
    return left


def merged(means: pd.DataFrame, before: pd.DataFrame, today: list[Trial]) -> pd.DataFrame:
    """The lines of other methods as they were, unless they are of trials that are none today."""
    listed, left = {(trial.method, trial.settings) for trial in today}, []
    made = set(means.method)
    for line in before.itertuples():
        if line.method not in made and (line.method, line.settings) in listed:
            left.append(line.Index)
    table = pd.concat([before.loc[left], means]) if left else means
    return table.sort_values(["method", "trial"])


def main(argv: list[str] | None = None) -> None:
    parser = config_parser(__doc__)
    parser.add_argument("--method", action="append", help="only this method; may be repeated")
    arguments = parser.parse_args(argv)
    params = load_study(arguments.config)
    if absent := sorted(set(params.tune.seeds) - set(params.seeds)):
        raise UserError(f"{arguments.config}: tune.seeds: not among the seeds: {absent}")
    today = all_trials(params)
    methods = list(dict.fromkeys(trial.method for trial in today))
    for method in arguments.method or []:
        if method not in methods:
            raise UserError(f"{arguments.config}: tune.space: {method!r} has none, or is not among "
                            f"models; choose one of {', '.join(methods)}")
    chosen = [trial for trial in today if trial.method in (arguments.method or methods)]
    images = Opened(prepared, params)

    def scored_run(run: tuple[int, Trial]) -> dict:
        seed, trial = run
        return scored(trial, seed, images.content)

    lines = []
    for seed in params.tune.seeds:
        lines += map_parallel(scored_run, list(product([seed], chosen)), f"trials, seed {seed}",
                              parallel=images.content.x.device.type == "cpu")
        if params.tune.halving:
            chosen = better_half(chosen, summary(lines, params))
    table = merged(summary(lines, params), read_trials(params), today)
    write_table(trials_path(params), table)
    if found := [f"{best.method} ({best.edge})" for best in table.itertuples() if best.edge]:
        print(f"The best lies on the edge of a range: {', '.join(found)}. Move it once, for all.")


if __name__ == "__main__":
    main()
