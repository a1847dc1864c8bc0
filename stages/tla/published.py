"""What the paper's poster shows, from reports/published.csv, in the terms of our tables. Imports no torch."""

from pathlib import Path

import pandas as pd

from tla.params import Params

DATASETS = {"mnist": "MNIST", "cifar10": "CIFAR-10"}


def published(params: Params, figure: str, root: Path = Path()) -> pd.DataFrame:
    """Values (fractions) of one figure of the poster for this data set: columns model, pool, outcome, value.

    Its long PGD run stands at both of our readings of it. Other data sets than the paper's have no line.
    """
    table = pd.read_csv(root / "reports" / "published.csv")
    table = table[(table.dataset == DATASETS.get(params.data.source)) & (table.figure == figure)]
    longest = f"pgd_{params.evaluate.attacks['pgd'].steps[-1]}_last"
    outcomes = table.attack.map({"C&W": ["cw_last"], "MIM": ["mim_last"]}.get).where(
        ~table.attack.str.startswith("PGD"), pd.Series([[longest, "pgd_restarts_last"]] * len(table), table.index))
    return table.assign(outcome=outcomes, value=table.value / 100).explode("outcome")
