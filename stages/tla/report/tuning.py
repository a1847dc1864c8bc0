"""Hyper-parameter trials of a study, as reports/<study>/tuning.csv has them: one line a trial."""

from pathlib import Path

import pandas as pd

from tla.files import read_csv
from tla.params import Params

COLUMNS = ("method", "trial", "settings", "clean_accuracy", "robust_accuracy", "robust_std",
           "seeds", "edge")


def trials_path(params: Params) -> Path:
    """Where the trials of a study stand."""
    return Path("reports", params.dataset, "tuning.csv")


def read_trials(params: Params) -> pd.DataFrame:
    """The trials of a study; no line where nothing was tuned."""
    path = trials_path(params)
    found = read_csv(path) if path.exists() else pd.DataFrame()
    found = found.reindex(columns=list(COLUMNS))
    return found.assign(edge=found.edge.astype(object).fillna(""))


def best_first(trials: pd.DataFrame) -> pd.DataFrame:
    """Trials by robust accuracy, highest first, those of more seeds before those of fewer.

    Clean accuracy and then the earlier trial break ties.
    """
    return trials.sort_values(["seeds", "robust_accuracy", "clean_accuracy", "trial"],
                              ascending=[False, False, False, True], kind="stable")


def winners(trials: pd.DataFrame) -> pd.DataFrame:
    """The best trial of each method. Lines keep their index."""
    return best_first(trials).drop_duplicates("method").sort_index()


def settings_of(text: str) -> dict[str, str]:
    """'methods.at.lr=0.01 mining.batch=50' -> values by dotted key, as text."""
    return dict(setting.split("=") for setting in text.split())


def drawn_against(trials: pd.DataFrame) -> tuple[str, pd.Series]:
    """The first key that the trials of one method differ in, and its value in each of them.

    All are positive, for a logarithmic axis. The first key of all where there is none such.
    """
    texts = pd.DataFrame([settings_of(text) for text in trials.settings], index=trials.index)
    values = texts.apply(pd.to_numeric, errors="coerce")
    for key in values:
        if values[key].nunique() > 1 and (values[key] > 0).all():
            return key, values[key]
    return values.columns[0], values.iloc[:, 0]
