"""AUC and ROC curves from the rows of the detect stage.

Two questions, each answered by three scores at several eps:
`misclassified`: among adversarial images, does the score tell those the model gets wrong from those it
gets right? (misclassification detection, the paper's task)
`adversarial`: does it tell successful adversarial images from the clean, correctly classified images?
Imports no torch.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

TASKS = ("misclassified", "adversarial")
SCORES = ("softmax", "neighbors", "mixture")


def auc(abnormal: np.ndarray, score: np.ndarray) -> float:
    """Chance that an abnormal image scores lower than a normal one; both kinds must be there."""
    return float(roc_auc_score(abnormal, -score))


def roc_on_grid(abnormal: np.ndarray, score: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """True-positive rate at each false-positive rate of `grid`, abnormal images being the positives."""
    fpr, tpr, _ = roc_curve(abnormal, -score)
    return np.interp(grid, fpr, tpr)


def cases(rows: pd.DataFrame, task: str, score: str) -> tuple[np.ndarray, np.ndarray]:
    """Which cases are abnormal, [m] bool, and their scores, [m], for the rows of one seed and eps."""
    wrong = (rows.adv_pred != rows.label).to_numpy()
    adversarial = rows[f"adv_{score}"].to_numpy()
    if task == "misclassified":
        return wrong, adversarial
    right = (rows.clean_pred == rows.label).to_numpy()
    fooled = wrong & right
    abnormal = np.concatenate([np.zeros(right.sum(), bool), np.ones(fooled.sum(), bool)])
    return abnormal, np.concatenate([rows[f"clean_{score}"].to_numpy()[right], adversarial[fooled]])


def each_seed(rows: pd.DataFrame, task: str, score: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`cases` of each seed that has both kinds; the scores of different networks are not comparable."""
    for _, part in rows.groupby("seed"):
        abnormal, values = cases(part, task, score)
        if abnormal.any() and not abnormal.all():
            yield abnormal, values


def auc_metrics(rows: pd.DataFrame, scores: tuple[str, ...]) -> dict[str, float | int]:
    """Mean AUC over seeds per task, score and eps factor, its spread, and the accuracy at each eps.

    An AUC that no seed defines (all right or all wrong) is left out.
    """
    metrics = {}
    for factor, part in rows.groupby("eps_factor"):
        metrics[f"accuracy_eps_{factor:g}"] = float((part.adv_pred == part.label).mean())
        for task in TASKS:
            for score in scores:
                values = [auc(*case) for case in each_seed(part, task, score)]
                if values:
                    name = f"{task}_{score}_auc_eps_{factor:g}"
                    metrics[name] = float(np.mean(values))
                    metrics[f"{name}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return metrics


def roc_table(rows: pd.DataFrame, scores: tuple[str, ...], grid: np.ndarray) -> pd.DataFrame:
    """ROC curves averaged over seeds at fixed false-positive rates: task, score, eps_factor, fpr, tpr."""
    curves = []
    for factor, part in rows.groupby("eps_factor"):
        for task in TASKS:
            for score in scores:
                seeds = [roc_on_grid(*case, grid) for case in each_seed(part, task, score)]
                if seeds:
                    curves.append(pd.DataFrame({"task": task, "score": score, "eps_factor": factor,
                                                "fpr": grid, "tpr": np.mean(seeds, axis=0)}))
    return pd.concat(curves)
