"""Which images one model survives and another does not, and some of these images to look at."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from tla.files import read_arrays, write_table
from tla.measure.pictures import write_tiles
from tla.outcomes import CLEAN, ROBUST, WHITE_BOX
from tla.params import Params
from tla.report.tables import Rows, counted_outcome

Broken = dict[str, dict[str, np.ndarray]]   # by model, what evaluate keeps of images it lost


def survived(rows: pd.DataFrame, outcome: str) -> pd.Series:
    """1 where a model is right, a stochastic one in most draws, else 0; NaN where not attacked."""
    return (rows[outcome] > 0.5).where(rows[outcome].notna())


def survivors_table(suite: Rows, params: Params) -> pd.DataFrame:
    """A line per pair of models and outcome: how many images both, one or neither survive.

    An image counts once for every training seed on which both models were attacked.
    """
    outcomes = [CLEAN, *(counted_outcome(params, name) for name in params.evaluate.attacks),
                WHITE_BOX, ROBUST]
    lines = []
    for outcome in outcomes:
        left = {}
        for model, rows in suite.items():
            left[model] = survived(rows.set_index(["seed", "idx"]), outcome)
        for model, other in combinations(suite, 2):
            seen = pd.concat([left[model], left[other]], axis=1, keys=["a", "b"]).dropna() == 1
            a, b = seen.a, seen.b
            lines.append({
                "outcome": outcome, "model": model, "other": other, "both": (a & b).sum(),
                "model_only": (a & ~b).sum(), "other_only": (~a & b).sum(),
                "neither": (~a & ~b).sum()})
    return pd.DataFrame(lines)


def examples(suite: Rows, broken: Broken, params: Params) -> pd.DataFrame:
    """Images that each model lost and another survives: at most compare.examples of every pair.

    Columns model, row (in what `broken` has of it), idx, label, pred, survived_by (models, spaced).
    All are of the first seed and the attack that evaluate.broken names; the first ones are taken.
    """
    outcome = counted_outcome(params, params.evaluate.broken.attack)
    alive, lines = {}, []
    for model, rows in suite.items():
        rows = rows[rows.seed == params.seeds[0]]
        alive[model] = set(rows.idx[survived(rows, outcome) == 1])
    for model, kept in broken.items():
        chosen = set()
        for other in suite:
            found = np.isin(kept["idx"], list(alive[other] - alive[model]))
            chosen.update(np.flatnonzero(found)[:params.compare.examples].tolist())
        for row in sorted(chosen):
            line = {name: kept[name][row] for name in ("idx", "label", "pred")}
            by = " ".join(other for other in suite if line["idx"] in alive[other])
            lines.append({"model": model, "row": row} | line | {"survived_by": by})
    return pd.DataFrame(lines, columns=["model", "row", "idx", "label", "pred", "survived_by"])


def write_examples(folder: Path, suite: Rows, rows: Path, params: Params) -> None:
    """examples.csv, and of each model with a line there a picture: clean and adversarial image.

    rows: the folder of the models' rows. A line of a picture is a line of the table.
    """
    broken = {model: read_arrays(rows / model / "broken.npz") for model in suite}
    table = examples(suite, broken, params)
    write_table(folder / "examples.csv", table.drop(columns="row"))
    for model, part in table.groupby("model"):
        kept = broken[model]
        tiles = np.stack([kept["x"][part.row], kept["x_adv"][part.row]], axis=1)
        write_tiles(folder / f"{model}.png", tiles / 255)
