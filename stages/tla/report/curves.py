"""Accuracy against the radius of attacks in L2 and L0: from rows to what the report says of it."""

import pandas as pd

from tla.outcomes import Outcome, outcome_columns
from tla.report.tables import lookup

NORMS = {"l2": "L2", "l0": "L0"}        # correct under both attacks of the norm
ALONE = {"l2-apgd": "L2 by APGD", "l2-ddn": "L2 by DDN", "l0-fmn": "L0 by FMN",
         "l0-pointwise": "L0 by the pointwise attack"}
MEAN = "mean"                           # over all radii: the budget of such an outcome


def is_of_norm(outcome: Outcome) -> bool:
    """Whether an outcome is one in L2 or L0."""
    return outcome.attack in NORMS or outcome.attack in ALONE


def radius_of(outcome: Outcome) -> float:
    """The radius of an outcome in L2 or L0."""
    return float(outcome.budget)


def norm_label(outcome: Outcome) -> str:
    """'l2_0.5_worst' -> 'L2 up to 0.5', 'l0_mean_worst' -> 'L0, mean over radii'."""
    called = (NORMS | ALONE)[outcome.attack]
    if outcome.budget == MEAN:
        return f"{called}, mean over radii"
    return f"{called} up to {radius_of(outcome):g}"


def with_norms(suite: pd.DataFrame, norms: pd.DataFrame) -> pd.DataFrame:
    """A model's rows of the suite with its outcomes in L2 and L0, empty where not attacked so."""
    columns = ["seed", "idx", *outcome_columns(norms)]
    return suite.merge(norms[columns], how="left", on=["seed", "idx"])


def curve_lines(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The lines of a table of accuracies that lie on a curve, with their norm and radius."""
    lines = []
    for line in accuracy.to_dict("records"):
        outcome = Outcome.parse(line["outcome"])
        if outcome.attack in NORMS and outcome.budget != MEAN:
            lines.append(line | {"norm": outcome.attack, "radius": radius_of(outcome)})
    return pd.DataFrame(lines)


def distances_line(rows: pd.DataFrame) -> list[dict]:
    """Median of the smallest changes that were found for a model, in L2 and in pixels.

    0 stands for an image that is misclassified as it is, inf where nothing was found.
    """
    return [{"l2_median": rows.l2_distance.median(), "l0_median": rows.l0_distance.median(),
             "images": rows.idx.nunique(), "seeds": rows.seed.nunique()}]


def norm_facts(tables: dict[str, pd.DataFrame]) -> dict:
    """What the template says of L2 and L0: the outcomes of each norm, and every accuracy."""
    listed, facts = list(dict.fromkeys(tables["accuracy"].outcome)), {}
    for norm in NORMS:
        mean = str(Outcome(norm, MEAN, "worst"))
        radii = [name for name in listed if name.startswith(f"{norm}_") and name != mean]
        facts[norm] = {"radii": radii, "mean": mean}
    return {"norms": facts, "at_radius": lookup(tables["accuracy"], "model", "outcome")}
