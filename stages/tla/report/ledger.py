"""Claims of the paper, what our studies measured of them, and verdicts."""

import math
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Params, Real, checked, read_yaml
from tla.report.cost import cost_readings
from tla.report.labels import flagged
from tla.report.statistics import holm

Data = Literal["mnist", "cifar10", "tiny-imagenet", "any"]
VERDICTS = ("confirmed", "contradicted", "not resolved", "undefined", "not run")
# Another data set, or one training run, can agree or disagree with a claim, not settle it.
BESIDE = {"confirmed": "agrees", "contradicted": "disagrees"}


@dataclass(frozen=True, config=CHECKED)
class Claim:
    """One statement of the paper: by how many points `model` is ahead of `baseline`.

    `outcomes` are our readings of it; `equal_within` makes it a claim of hardly any difference: of
    no more than so many points. A claim of cost counts percent of the baseline's.
    """

    id: str
    data: Data
    says: str
    kind: Literal["accuracy", "auc", "cost", "unmeasured"]
    model: str
    baseline: str
    published: Real | None
    source: str
    outcomes: list[str]
    equal_within: Real | None = None

    @property
    def direction(self) -> int:
        """1 where the model is claimed to be ahead, as without a number; -1 where behind."""
        return -1 if (self.published or 0) < 0 else 1


@dataclass(frozen=True, config=CHECKED)
class Summary:
    """The claims, our studies of each data set, and studies of other data that stand beside."""

    studies: dict[Data, list[str]]
    beside: list[str]
    claims: list[Claim]


def load_summary(path: str | Path) -> Summary:
    """Read and check a file of claims. Raises UserError as `load_params` does."""
    return checked(Summary, read_yaml(path), path)


def studied(summary: Summary) -> list[str]:
    """Every study that the claims are read from, once."""
    names = []
    for own in summary.studies.values():
        names += own
    return list(dict.fromkeys([*names, *summary.beside]))


def path_of(study: str) -> str:
    """The params.yaml of a study, seen from the top of the repository."""
    return "params.yaml" if study == "digits" else f"experiments/{study}/params.yaml"


def verdict(claim: Claim, low: float, high: float) -> str:
    """confirmed, contradicted, not resolved or undefined, from our 95 % interval in points.

    A claim of a difference is confirmed where the interval is on the claimed side of zero and
    contradicted where on the other; one of hardly any difference inside its margin and outside.
    Without an interval the difference is undefined.
    """
    if math.isnan(low):
        return "undefined"
    margin = claim.equal_within
    if margin is not None:
        holds, fails = -margin <= low and high <= margin, low > margin or high < -margin
    else:
        ahead, behind = low > 0, high < 0
        holds, fails = (ahead, behind) if claim.direction > 0 else (behind, ahead)
    if holds:
        return "confirmed"
    return "contradicted" if fails else "not resolved"


def model_of(name: str, params: Params) -> str:
    """What a study calls a claim's model: the pool of `tla` has no name of its own there."""
    is_default = name == f"tla-b{params.mining.batch}" and name not in params.models
    return "tla" if is_default else name


def measured(claim: Claim, params: Params) -> pd.DataFrame:
    """The lines of a study's table of differences that read the claim, in the claim's order.

    `masked`: a model shows a sign of masking. A score stands for itself at every eps, first at
    those above the training one, which are the paper's.
    """
    tables = Path("reports", params.dataset, "tables")
    model, baseline = model_of(claim.model, params), model_of(claim.baseline, params)
    if claim.kind == "cost":
        return cost_readings(model, baseline, params).assign(masked=False)
    name = "auc-differences.csv" if claim.kind == "auc" else "differences.csv"
    found = pd.read_csv(tables / name)
    found = found[(found.model == model) & (found.baseline == baseline)]
    reading = "outcome"
    if claim.kind == "auc":
        found = found.assign(training=found.eps_factor <= 1,
                             outcome=found.score + found.eps_factor.map(", eps x {:g}".format))
        found, reading = found.sort_values(["training", "eps_factor"], kind="stable"), "score"
    parts = [found[found[reading] == name] for name in claim.outcomes]
    masked = not {model, baseline}.isdisjoint(flagged(pd.read_csv(tables / "masking.csv")))
    return pd.concat(parts or [found[:0]]).assign(masked=masked)


def about(claim: Claim) -> dict:
    """The columns of a line of the ledger that come from the claim."""
    return {"claim": claim.id, "data": claim.data, "says": claim.says, "model": claim.model,
            "baseline": claim.baseline, "published": claim.published, "source": claim.source}


def readings(claim: Claim, study: str, params: Params, own_data: bool) -> list[dict]:
    """Lines of the ledger that one study has on a claim; differences in points."""
    lines = []
    for line in measured(claim, params).itertuples():
        low, high = 100 * line.low, 100 * line.high
        lines.append(about(claim) | {
            "study": study, "own_data": own_data, "outcome": line.outcome,
            "ours": 100 * line.difference, "low": low, "high": high, "p": line.p,
            "seeds_won": line.seeds_won, "images": line.images, "seeds": line.seeds,
            "masked": line.masked, "verdict": verdict(claim, low, high)})
    return lines


def ledger(summary: Summary, studies: dict[str, Params]) -> pd.DataFrame:
    """All lines; a claim that no study of its data measured has one with the verdict `not run`."""
    lines = []
    for claim in summary.claims:
        names, own, beside = summary.studies.get(claim.data, []), [], []
        for name in names:
            own += readings(claim, name, studies[name], own_data=True)
        for name in summary.beside:
            if name not in names:
                beside += readings(claim, name, studies[name], own_data=False)
        if not own:
            own.append(about(claim) | {"study": "", "own_data": True, "verdict": "not run"})
        lines += own + beside
    table = with_holm(pd.DataFrame(lines))
    weak = ~table.own_data | (table.seeds < 2)
    return table.assign(verdict=table.verdict.replace(BESIDE).where(weak, table.verdict))


def with_holm(table: pd.DataFrame) -> pd.DataFrame:
    """The ledger with Holm's p over the comparisons of each study, and half an interval's width.

    That is the difference that would have been resolved. A comparison that speaks to several claims
    counts once.
    """
    keys = ["study", "model", "baseline", "outcome"]
    once = table[table.p.notna()].drop_duplicates(keys)
    once = once.assign(p_holm=math.nan)
    for _, part in once.groupby("study"):
        once.loc[part.index, "p_holm"] = holm(part.p.tolist())
    found = table.merge(once[[*keys, "p_holm"]], how="left", on=keys)
    return found.assign(resolvable=(found.high - found.low) / 2)


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """One line a claim: on its own data, by the reading that the paper most likely means.

    One training run leaves a claim unresolved, whether it agrees or not.
    """
    first = table[table.own_data].drop_duplicates("claim")
    return first.assign(verdict=first.verdict.replace(list(BESIDE.values()), "not resolved"))


def counts(table: pd.DataFrame) -> dict[str, int]:
    """How many claims got each verdict in their headline."""
    found = headline(table).verdict
    return {name: int((found == name).sum()) for name in VERDICTS}
