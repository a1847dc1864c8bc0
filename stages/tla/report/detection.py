"""AUC and ROC curves from the rows of the represent stage, and differences of AUC between models.

Two questions, each answered by three scores at several eps:
`misclassified`: among adversarial images, does the score tell those the model gets wrong from those
it gets right? (misclassification detection, the paper's task)
`adversarial`: does it tell fooling adversarial images from clean, correctly classified images?
An area is undefined where a seed has too few images of either kind (`compare.least`).
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from tla.params import Params
from tla.report.statistics import Case, auc_difference, weighted_auc

TASKS = ("misclassified", "adversarial")
SCORES = ("softmax", "neighbors", "mixture")
GRID = np.linspace(0, 1, 41)        # false-positive rates at which curves are averaged over seeds
AUC_COLUMNS = ["model", "baseline", "score", "eps_factor", "difference", "low", "high", "p",
               "seeds_won", "images", "seeds"]


def auc(abnormal: np.ndarray, score: np.ndarray) -> float:
    """Chance that an abnormal image scores lower than a normal one; both kinds must be there."""
    return float(weighted_auc(abnormal, score, np.ones(len(score))))


def roc_on_grid(abnormal: np.ndarray, score: np.ndarray) -> np.ndarray:
    """True-positive rate at each false-positive rate of GRID; abnormal images are the positives."""
    fpr, tpr, _ = roc_curve(abnormal, -score)
    return np.interp(GRID, fpr, tpr)


def case(rows: pd.DataFrame, task: str, score: str) -> Case:
    """Which images are abnormal and their scores, from the rows of one seed and eps."""
    wrong = (rows.adv_pred != rows.label).to_numpy()
    adversarial = rows[f"adv_{score}"].to_numpy()
    if task == "misclassified":
        return wrong, adversarial
    right = (rows.clean_pred == rows.label).to_numpy()
    clean = rows[f"clean_{score}"].to_numpy()[right]
    fooling = adversarial[wrong & right]
    abnormal = np.repeat([False, True], [len(clean), len(fooling)])
    return abnormal, np.concatenate([clean, fooling])


def cases(rows: pd.DataFrame, factor: float, task: str, score: str) -> list[Case]:
    """The case of each seed at one eps; scores of different networks are not comparable."""
    chosen = rows[rows.eps_factor == factor]
    return [case(part, task, score) for _, part in chosen.groupby("seed")]


def fewest(found: list[Case]) -> int:
    """Images of the rarer kind in the seed that has fewest of it."""
    return min(min(abnormal.sum(), (~abnormal).sum()) for abnormal, _ in found)


def readings(rows: pd.DataFrame, least: int) -> Iterator[tuple[dict, list[Case]]]:
    """Every task, score and eps of a model's rows and the cases of its seeds; none if undefined."""
    for factor, task, score in product(sorted(set(rows.eps_factor)), TASKS, SCORES):
        found = cases(rows, factor, task, score)
        about = {"task": task, "score": score, "eps_factor": factor}
        yield about, found if fewest(found) >= least else []


def auc_lines(rows: pd.DataFrame, least: int) -> Iterator[dict]:
    """A line per task, score and eps: mean AUC over seeds and its spread, empty where undefined."""
    for about, found in readings(rows, least):
        areas = pd.Series([auc(*each) for each in found], dtype=float)
        yield about | {"auc": areas.mean(), "std": areas.std(), "seeds": len(areas)}


def roc_lines(rows: pd.DataFrame, least: int) -> Iterator[dict]:
    """Points of the ROC curves that are defined, averaged over seeds at fixed rates."""
    for about, found in readings(rows, least):
        if found:
            tpr = np.mean([roc_on_grid(*each) for each in found], axis=0)
            for at, height in zip(GRID, tpr, strict=True):
                yield about | {"fpr": at, "tpr": height}


def chance(found: list[Case]) -> list[Case]:
    """The same images with one score for all: an area of a half."""
    return [(abnormal, np.zeros(len(abnormal))) for abnormal, _ in found]


def auc_differences(rows: dict[str, pd.DataFrame], pairs: list[tuple[str, str]],
                    params: Params) -> pd.DataFrame:
    """One line per pair, score and eps on misclassification; undefined ones are empty, not absent.

    rows: those of detect by model; the baseline `chance` needs none.
    """
    settings, lines = params.compare, []
    for model, baseline in pairs:
        for factor, score in product(params.detect.eps_factors, SCORES):
            a = cases(rows[model], factor, "misclassified", score)
            b = chance(a) if baseline == "chance" else cases(
                rows[baseline], factor, "misclassified", score)
            line = {"model": model, "baseline": baseline, "score": score, "eps_factor": factor,
                    "images": rows[model].idx.nunique(), "seeds": len(a)}
            if fewest(a + b) >= settings.least:
                line |= auc_difference(a, b, params.data.folds is None, settings.resamples,
                                       settings.seed)
            lines.append(line)
    return pd.DataFrame(lines, columns=AUC_COLUMNS).astype({"seeds_won": "Int64"})
