"""What the paper's poster shows, from reports/published.csv, in the terms of our tables. Imports no torch."""

from pathlib import Path

import pandas as pd

from tla.params import Params

DATASETS = {"mnist": "MNIST", "cifar10": "CIFAR-10"}


def short_run(params: Params) -> int:
    """Steps of the short PGD run: the 20 of the paper's sweep where we take that many, else our fewest."""
    steps = params.evaluate.attacks["pgd"].steps
    return 20 if 20 in steps else steps[0]


def published(params: Params, figure: str, root: Path = Path()) -> pd.DataFrame:
    """Values (fractions) of one figure of the poster for this data set: columns model, pool, outcome, value.

    The long PGD run of its bars stands at both of our readings of it, the short one of its sweep at ours.
    Other data sets than the paper's have no line.
    """
    table = pd.read_csv(root / "reports" / "published.csv")
    table = table[(table.dataset == DATASETS.get(params.data.source)) & (table.figure == figure)]
    longest = f"pgd_{params.evaluate.attacks['pgd'].steps[-1]}_last"
    readings = {"C&W": ["cw_last"], "MIM": ["mim_last"], "PGD": [f"pgd_{short_run(params)}_last"]}
    outcomes = [readings.get(attack, [longest, "pgd_restarts_last"]) for attack in table.attack]
    return table.assign(outcome=outcomes, value=table.value / 100).explode("outcome")
