"""AUC and ROC curves from the rows of the represent stage, and differences of AUC between models.

Two questions, each answered by three scores at several eps:
`misclassified`: among adversarial images, does the score tell those the model gets wrong from those
it gets right? (misclassification detection, the paper's task)
`adversarial`: does it tell fooling adversarial images from clean, correctly classified images?
An area is undefined where a seed has too few images of either kind (`compare.least`).
Both are also asked of an attacker who knows the score, beside one who does not, on the same images.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from tla.params import Params
from tla.report.pairs import shared
from tla.report.statistics import Case, auc_difference, weighted_auc

TASKS = {"misclassified": "wrong vs right, both adversarial",
         "adversarial": "fooling adversarial vs clean"}
SCORES = {"softmax": "largest softmax probability", "neighbors": "cosine distance to neighbours",
          "mixture": "Gaussian-mixture likelihood"}
# By the ending of a score's name: the task, and whom its rows are read against.
ASKED = {"": ("misclassified", None), "-fooling": ("adversarial", None),
         "-aware": ("misclassified", "aware")}
ATTACKERS = {"unaware": "attacker unaware of the score", "aware": "attacker who knows the score"}
GRID = np.linspace(0, 1, 41)        # false-positive rates at which curves are averaged over seeds
AUC_COLUMNS = ["model", "baseline", "score", "eps_factor", "difference", "low", "high", "p",
               "standard_error", "degrees_of_freedom", "seeds_won", "images", "seeds"]


def auc(abnormal: np.ndarray, score: np.ndarray) -> float:
    """Chance that an abnormal image scores lower than a normal one; both kinds must be there."""
    return float(weighted_auc(abnormal, score, np.ones(len(score))))


def roc_on_grid(abnormal: np.ndarray, score: np.ndarray) -> np.ndarray:
    """True-positive rate at each false-positive rate of GRID; abnormal images are the positives."""
    fpr, tpr, _ = roc_curve(abnormal, -score)
    return np.interp(GRID, fpr, tpr)


def case(rows: pd.DataFrame, task: str, score: str) -> Case:
    """Scores from the rows of one seed and eps, and which of them are of abnormal images."""
    places, wrong = np.arange(len(rows)), (rows.adv_pred != rows.label).to_numpy()
    adversarial = rows[f"adv_{score}"].to_numpy()
    if task == "misclassified":
        return Case(wrong, adversarial, places)
    right = (rows.clean_pred == rows.label).to_numpy()
    fooling = wrong & right
    abnormal = np.repeat([False, True], [right.sum(), fooling.sum()])
    scores = [rows[f"clean_{score}"].to_numpy()[right], adversarial[fooling]]
    return Case(abnormal, np.concatenate(scores), np.concatenate([places[right], places[fooling]]))


def cases(rows: pd.DataFrame, factor: float, task: str, score: str,
          attacker: str | None = None) -> list[Case]:
    """The case of each seed at one eps; scores of different networks are not comparable.

    attacker: whom rows of `aware` are read against.
    """
    chosen = rows[rows.eps_factor == factor]
    if attacker:
        chosen = facing(chosen, attacker, score)
    return [case(part, task, score) for _, part in chosen.groupby("seed")]


def fewest(found: list[Case]) -> int:
    """Images of the rarer kind in the seed that has fewest of it."""
    return min(min(each.abnormal.sum(), (~each.abnormal).sum()) for each in found)


def cases_of(rows: pd.DataFrame, least: int) -> Iterator[tuple[dict, list[Case]]]:
    """Every task, score and eps of a model's rows and the cases of its seeds; none if undefined.

    In rows of `aware` also every attacker.
    """
    attackers = [None] if "adv_pred" in rows else list(ATTACKERS)
    for factor, task, score, attacker in product(
            sorted(set(rows.eps_factor)), TASKS, SCORES, attackers):
        found = cases(rows, factor, task, score, attacker)
        about = {"task": task, "score": score, "eps_factor": factor}
        if attacker:
            about["attacker"] = attacker
        yield about, found if fewest(found) >= least else []


def auc_lines(rows: pd.DataFrame, least: int) -> Iterator[dict]:
    """A line per task, score and eps: mean AUC over seeds and its spread, empty where undefined."""
    for about, found in cases_of(rows, least):
        yield about | mean_area(found)


def mean_area(found: list[Case]) -> dict:
    """Mean AUC over seeds and its spread; empty without seeds."""
    return spread_of([auc(each.abnormal, each.score) for each in found])


def spread_of(areas: list[float]) -> dict:
    """Mean, standard deviation and number of the AUCs of seeds."""
    areas = pd.Series(areas, dtype=float)
    return {"auc": areas.mean(), "std": areas.std(), "seeds": len(areas)}


def roc_lines(rows: pd.DataFrame, least: int) -> Iterator[dict]:
    """Points of the ROC curves that are defined, averaged over seeds at fixed rates."""
    for about, found in cases_of(rows, least):
        for point in mean_curve(found):
            yield about | point


def mean_curve(found: list[Case]) -> Iterator[dict]:
    """fpr and tpr, averaged over seeds at fixed rates; no point without seeds."""
    if found:
        tpr = np.mean([roc_on_grid(each.abnormal, each.score) for each in found], axis=0)
        for at, height in zip(GRID, tpr, strict=True):
            yield {"fpr": at, "tpr": height}


def chance(found: list[Case]) -> list[Case]:
    """The same images with one score for all: an area of a half."""
    return [each._replace(score=np.zeros(len(each.score))) for each in found]


def auc_differences(detect: dict[str, pd.DataFrame], aware: dict[str, pd.DataFrame],
                    pairs: list[tuple[str, str]], params: Params) -> pd.DataFrame:
    """One line per pair, score and eps; undefined ones are empty, not absent.

    First on misclassification; then on fooling images against clean ones, as <score>-fooling; then
    on misclassification where the attacker knows the score, as <score>-aware. detect, aware: rows
    by model; the baseline `chance` needs none. Raises ValueError where images do not match.
    """
    lines = []
    for suffix, (task, attacker) in ASKED.items():
        rows, settings = detect, params.detect
        if attacker:
            rows, settings = aware, params.detect.aware
        for (model, baseline), factor, score in product(pairs, settings.eps_factors, SCORES):
            a = cases(rows[model], factor, task, score, attacker)
            b = chance(a)
            if baseline != "chance":
                check_paired(rows[model], rows[baseline])
                b = cases(rows[baseline], factor, task, score, attacker)
            line = {"model": model, "baseline": baseline, "score": score + suffix,
                    "eps_factor": factor, "images": rows[model].idx.nunique(), "seeds": len(a)}
            if fewest(a + b) >= params.compare.least:
                line |= compared_areas(a, b, params)
            lines.append(line)
    return pd.DataFrame(lines, columns=AUC_COLUMNS).astype({"seeds_won": "Int64"})


def check_paired(a: pd.DataFrame, b: pd.DataFrame) -> None:
    """Raise ValueError unless the rows of two models are of the same images, in the same order."""
    keys = ["seed", "eps_factor", "idx"]
    if not np.array_equal(a[keys], b[keys]):
        raise ValueError("rows that are set against each other are not of the same images")


def compared_areas(a: list[Case], b: list[Case], params: Params) -> dict:
    """AUC a minus AUC b with its interval."""
    settings = params.compare
    return auc_difference(a, b, shared(params), settings.resamples, settings.seed)


# Against an attacker who knows the score

def facing(rows: pd.DataFrame, attacker: str, score: str) -> pd.DataFrame:
    """Rows of `aware` as those of detect: the images of one attacker; if aware, of this score."""
    made = attacker if attacker == "unaware" else f"{attacker}_{score}"
    return rows.assign(**{"adv_pred": rows[f"{made}_pred"],
                          f"adv_{score}": rows[f"{attacker}_{score}"]})


def aware_lines(rows: pd.DataFrame, params: Params) -> Iterator[dict]:
    """As `auc_lines`, for each attacker; of misclassified images also the interval of the AUC.

    above_chance: whether it lies above a half.
    """
    for about, found in cases_of(rows, params.compare.least):
        line = about | mean_area(found)
        if found and about["task"] == "misclassified":
            beyond = compared_areas(found, chance(found), params)
            line |= {"low": 0.5 + beyond["low"], "high": 0.5 + beyond["high"],
                     "above_chance": beyond["low"] > 0}
        yield line


def works_against(unaware: dict, aware: dict) -> str:
    """Whom a detector withstands: `both` attackers, only the `unaware` one, `neither`; `undefined`.

    Two lines of `aware_lines` on misclassified images. It works against an attacker where the
    interval of its AUC lies above chance.
    """
    if pd.isna(unaware["above_chance"]) or pd.isna(aware["above_chance"]):
        return "undefined"
    if aware["above_chance"]:
        return "both"
    return "unaware" if unaware["above_chance"] else "neither"
