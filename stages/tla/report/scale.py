"""TLA against AT and ALP in variants of other sizes and lengths: does it hold with scale?"""

import numpy as np
import pandas as pd

from tla.params import Params
from tla.report.pairs import shared
from tla.report.published import published_gain
from tla.report.tables import Rows, accuracy_lines, interval, minus

VariantRows = dict[str, Rows]      # rows by variant and model
BASELINES = ("at", "alp")


def accuracy_table(rows: VariantRows, costs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The compute and the accuracy of every model of every variant, a line per outcome."""
    lines = []
    for variant, models in rows.items():
        for model, part in models.items():
            about = {"variant": variant, "model": model, "compute": computed(costs[variant], model)}
            lines += [about | line for line in accuracy_lines(part)]
    return pd.DataFrame(lines)


def computed(cost: pd.DataFrame, model: str) -> int:
    """Multiply-adds of the whole training of a model, from the rows of a variant's cost.

    A way back through the network counts as one forward.
    """
    line = cost.set_index("model").loc[model]
    return int(line.multiply_adds * (line.forward + line.backward) * line.steps)


def scale_table(params: Params, rows: VariantRows, costs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A line per series, variant and baseline: TLA's compute, accuracies and their difference."""
    scale, lines = params.variants.scale, []
    for series, names in scale.series.items():
        for variant in names:
            tla = rows[variant]["tla"]
            for baseline in BASELINES:
                other = rows[variant][baseline]
                lines.append({
                    "series": series, "variant": variant, "baseline": baseline,
                    "compute": computed(costs[variant], "tla"),
                    "accuracy": tla[scale.outcome].mean(),
                    "baseline_accuracy": other[scale.outcome].mean(),
                    **interval(minus(tla, other, scale.outcome), tla, shared(params))})
    return pd.DataFrame(lines)


def trend_table(params: Params, rows: VariantRows, costs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A line per series and baseline: by how much their difference grows with tenfold compute.

    It is the slope of least squares over the variants, of each image and seed; so it is a mean
    over these, and its interval theirs.
    """
    outcome, lines = params.variants.scale.outcome, []
    for series, names in params.variants.scale.series.items():
        weights = slope_weights([computed(costs[variant], "tla") for variant in names])
        for baseline in BASELINES:
            slope = 0
            for variant, weight in zip(names, weights, strict=True):
                models = rows[variant]
                slope = slope + weight * minus(models["tla"], models[baseline], outcome)
            lines.append({"series": series, "baseline": baseline,
                          **interval(slope, rows[names[0]]["tla"], shared(params))})
    return pd.DataFrame(lines)


def slope_weights(compute: list[float]) -> np.ndarray:
    """Weights of values at these amounts of compute whose sum is their slope per factor of ten."""
    away = np.log10(compute) - np.log10(compute).mean()
    return away / (away**2).sum()


def scale_facts(params: Params, lines: pd.DataFrame, trends: pd.DataFrame) -> dict:
    """What the template says of scale.

    beyond: the authors' compute in units of the largest; steepest: the largest growth of a
    difference with tenfold compute that no interval excludes.
    """
    scale, largest = params.variants.scale, lines.compute.max()
    settings, about = [], []
    for _, part in lines.groupby("variant", sort=False):
        by = {line["baseline"]: line for line in part.to_dict("records")}
        settings.append(by["at"] | {"against": [by[name] for name in BASELINES]})
    for name in BASELINES:
        published = published_gain(params, scale.outcome, name)
        about.append(baseline_facts(lines, trends, name, published))
    return {"settings": settings, "span": largest / lines.compute.min(),
            "beyond": scale.authors / largest if scale.authors else None,
            "rising": [line for line in trends.to_dict("records") if line["low"] > 0],
            "steepest": trends.high.max(), "about": about}


def baseline_facts(lines: pd.DataFrame, trends: pd.DataFrame, baseline: str,
                   published: float) -> dict:
    """In how many variants a difference is resolved, or excludes the published one; trends."""
    own = lines[lines.baseline == baseline].drop_duplicates("variant")
    return {"baseline": baseline, "variants": len(own), "published": published,
            "higher": int((own.low > 0).sum()), "lower": int((own.high < 0).sum()),
            "least": own.difference.min(), "most": own.difference.max(),
            "below": int((own.high < published).sum()), "above": int((own.low > published).sum()),
            "trends": trends[trends.baseline == baseline].to_dict("records")}
