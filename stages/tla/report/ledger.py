"""What our studies measured of the claims, and verdicts before and after Holm's correction."""

import math
from collections import Counter

import numpy as np
import pandas as pd

from tla.params import Params, UserError
from tla.report.cost import cost_readings
from tla.report.hypotheses import Claim, Summary, check_same, model_of
from tla.report.intact import read_table
from tla.report.labels import flagged, network_label
from tla.report.statistics import half_width, holm, margin_p

VERDICTS = ("confirmed", "contradicted", "not resolved", "undefined", "not run")
# Of a reading that does not decide a claim; its own verdict stands beside, uncorrected.
EXPLORATORY = "exploratory"
# Another data set, or one training run, can agree or disagree with a claim, not settle it.
BESIDE = {"confirmed": "agrees", "contradicted": "disagrees"}


def verdict(claim: Claim, ours: float, p: float, level: float) -> str:
    """confirmed, contradicted, not resolved or undefined, from our difference in points and its p.

    A difference that is told from none by p is on the claimed side of zero or not; one of hardly
    any, that is told from the margin, inside it or beyond. Without p the difference is undefined.
    """
    if math.isnan(p):
        return "undefined"
    if p >= level:
        return "not resolved"
    if claim.equal_within is not None:
        holds = abs(ours) <= claim.equal_within
    else:
        holds = ours * claim.direction > 0
    return "confirmed" if holds else "contradicted"


def verdict_of_cost(claim: Claim, low: float, high: float) -> str:
    """As `verdict`, from a range in percent: a count and a time are no sample and have no p."""
    margin = claim.equal_within
    if -margin <= low and high <= margin:
        return "confirmed"
    return "contradicted" if low > margin or high < -margin else "not resolved"


def measured(claim: Claim, params: Params) -> pd.DataFrame:
    """The lines of a study that read the claim: the primary reading, then others as listed.

    `masked`: a model shows a sign of masking. A score stands for itself at every eps, first at
    those above the training one, which are the paper's.
    """
    model, baseline = model_of(claim.model, params), model_of(claim.baseline, params)
    if claim.kind == "cost":
        found = cost_readings(model, baseline, params)
        return in_order(claim, found.assign(masked=False, standard_error=math.nan,
                                            degrees_of_freedom=math.nan))
    found = read_table(params, "auc-differences" if claim.kind == "auc" else "differences")
    found = found[(found.model == model) & (found.baseline == baseline)]
    if claim.kind == "auc":
        found = found.assign(training=found.eps_factor <= 1,
                             outcome=found.score + found.eps_factor.map(", eps x {:g}".format))
        found = found.sort_values(["training", "eps_factor"], kind="stable")
    masked = not {model, baseline}.isdisjoint(flagged(read_table(params, "masking")))
    return in_order(claim, found.assign(masked=masked))


def in_order(claim: Claim, found: pd.DataFrame) -> pd.DataFrame:
    """The lines that a claim names, in its order; those of a score under the name of the score."""
    is_primary = found.outcome == claim.primary
    parts, others = [found[is_primary]], found[~is_primary]
    reading = others["score" if claim.kind == "auc" else "outcome"]
    parts += [others[reading == name] for name in claim.secondary]
    return pd.concat(parts)


def about(claim: Claim) -> dict:
    """The columns of a line of the ledger that come from the claim."""
    return {"claim": claim.id, "same_as": claim.same_as, "data": claim.data, "says": claim.says,
            "model": claim.model, "baseline": claim.baseline, "published": claim.published,
            "source": claim.source}


def claim_lines(claim: Claim, params: Params, own_data: bool, level: float) -> list[dict]:
    """Lines of the ledger that a study has on a claim, not corrected; differences in points."""
    lines = []
    for line in measured(claim, params).itertuples():
        ours, low, high = 100 * line.difference, 100 * line.low, 100 * line.high
        p = p_of(claim, line)
        by_cost = claim.kind == "cost"
        said = verdict_of_cost(claim, low, high) if by_cost else verdict(claim, ours, p, level)
        decides = own_data and line.outcome == claim.primary
        lines.append(about(claim) | {
            "study": params.dataset, "network": network_label(params), "own_data": own_data,
            "outcome": line.outcome, "ours": ours, "low": low, "high": high, "p": p,
            "seeds_won": line.seeds_won, "images": line.images, "seeds": line.seeds,
            "masked": line.masked, "verdict": said if decides else EXPLORATORY,
            "standard_error": 100 * line.standard_error,
            "degrees_of_freedom": line.degrees_of_freedom,
            "uncorrected": said})
    return lines


def p_of(claim: Claim, line) -> float:
    """p of a line of a table of differences: of no difference, or of being within a margin."""
    if claim.equal_within is None or math.isnan(line.p):
        return line.p
    return margin_p(line.difference, claim.equal_within / 100, line.standard_error,
                    line.degrees_of_freedom)


def ledger(summary: Summary, studies: dict[str, Params]) -> pd.DataFrame:
    """All lines; a claim that no study of its data measured has one with the verdict `not run`.

    Raises UserError where a claim's primary reading is missing without a reason, or where claims
    that are one comparison do not say so.
    """
    check_same(summary, studies)
    lines = []
    for claim in summary.claims:
        names, own, beside = summary.studies.get(claim.data, []), [], []
        for name in names:
            found = claim_lines(claim, studies[name], True, summary.level)
            check_primary(claim, name, found, summary.config)
            own += found
        for name in summary.beside:
            if name not in names:
                beside += claim_lines(claim, studies[name], False, summary.level)
        if all(line["verdict"] == EXPLORATORY for line in own):
            own.insert(0, about(claim) | {"study": "", "network": "", "own_data": True,
                                          "verdict": "not run", "uncorrected": "not run"})
        lines += own + beside
    return corrected(pd.DataFrame(lines), summary)


def check_primary(claim: Claim, study: str, found: list[dict], config: str) -> None:
    """Raise UserError unless a study of a claim's data has its primary reading or says why not."""
    missing = all(line["verdict"] == EXPLORATORY for line in found)
    if not missing and study in claim.not_measured:
        raise UserError(f"{config}: {claim.id}: not_measured.{study}: it has {claim.primary!r}; "
                        f"leave the reason out")
    if missing and study not in claim.not_measured:
        raise UserError(
            f"{config}: {claim.id}: primary: {study} has no {claim.primary!r} of {claim.model} "
            f"against {claim.baseline}; name a reading that it has, or the reason under "
            f"not_measured.{study}")


def to_come(summary: Summary) -> Counter:
    """By study, how many of the comparisons that its claims make have a reason, not a reading."""
    claims = [claim for claim in summary.claims if claim.kind != "cost" and claim.same_as is None]
    return Counter(study for claim in claims for study in claim.not_measured)


def unread(summary: Summary, table: pd.DataFrame) -> dict[str, list[str]]:
    """By claim that some study has read, those of its readings that none has yet."""
    found = {}
    for claim in summary.claims:
        outcomes = table.outcome[table.claim == claim.id].dropna()
        read = {outcome.partition(", eps")[0] for outcome in outcomes}  # a score is for every eps
        if read and (absent := [name for name in claim.secondary if name not in read]):
            found[claim.id] = absent
    return found


def holm_by_study(table: pd.DataFrame, counted: pd.Series,
                  summary: Summary) -> tuple[pd.Series, pd.Series]:
    """Holm's p of the counted lines, and for every line how many comparisons its study makes.

    Each look at a study is a comparison of its own; one still to come has p = 1.
    """
    p_holm, comparisons = pd.Series(math.nan, table.index), pd.Series(1, table.index)
    waiting = to_come(summary)
    for study, part in table[counted].groupby("study"):
        looks, missing = summary.looks.get(study, 1), [1.0] * waiting[study]
        adjusted = looks * holm([*part.p, *missing])
        p_holm[part.index] = np.minimum(adjusted, 1)[:len(part)]
        comparisons[table.study == study] = looks * (len(part) + len(missing))
    return p_holm, comparisons


def corrected(table: pd.DataFrame, summary: Summary) -> pd.DataFrame:
    """The ledger with Holm's p over the primary readings of each study, and verdicts by it.

    Of a study that was looked at several times p is multiplied by their number (Bonferroni).
    A comparison still to come counts as one with p = 1, so that its own p can unsettle no verdict.
    A claim that is the comparison of another takes that one's p and is not counted. resolvable:
    half an interval's width, the difference that would have been told from none;
    resolvable_corrected: at most that after correction, as the smallest p of its study. Both are
    empty for a claim of hardly any difference, which is told from a margin.
    """
    decides = table.verdict != EXPLORATORY
    equal = table.claim.isin([claim.id for claim in summary.claims if claim.equal_within])
    counted = decides & table.same_as.isna() & table.p.notna()
    p_holm, comparisons = holm_by_study(table, counted, summary)
    comparison = table.same_as.fillna(table.claim)
    p_holm = p_holm.groupby([table.study, comparison]).transform("max").where(decides)
    one_seed = table.seeds < 2
    undecided = (p_holm >= summary.level) | (table.p.notna() & one_seed)
    beside = table.uncorrected.replace(BESIDE)
    first = half_width(table.standard_error, table.degrees_of_freedom, summary.level / comparisons)
    return table.assign(
        verdict=table.verdict.mask(decides & undecided, "not resolved"),
        uncorrected=table.uncorrected.mask(~table.own_data | one_seed, beside),
        p_holm=p_holm, resolvable=((table.high - table.low) / 2).mask(equal),
        resolvable_corrected=first.where(decides & ~equal))


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """One line a claim: its primary reading, on the first study of its own data that has it."""
    return table[table.verdict != EXPLORATORY].drop_duplicates("claim")


def counts(table: pd.DataFrame, column: str) -> dict[str, int]:
    """How many claims have each verdict in their headline, a comparison of several claims once.

    column: verdict or uncorrected. One training run leaves a claim unresolved.
    """
    first = headline(table)
    found = first[column][first.same_as.isna()].replace(list(BESIDE.values()), "not resolved")
    return {name: int((found == name).sum()) for name in VERDICTS}


def lies(line) -> str:
    """Where the published value lies, seen from our interval; empty where either is missing."""
    if pd.isna(line.low) or pd.isna(line.published):
        return ""
    if line.published > line.high:
        return "above"
    return "below" if line.published < line.low else "inside"


def left_out(table: pd.DataFrame) -> tuple[int, int]:
    """Of how many comparisons not resolved the interval leaves the published difference out.

    And how many of them have a published one. The intervals are not corrected for their number.
    """
    first = headline(table)
    lines = first[first.same_as.isna() & (first.verdict == "not resolved")]
    places = [lies(line) for line in lines.itertuples()]
    return sum(place in ("above", "below") for place in places), sum(map(bool, places))


def other_readings(table: pd.DataFrame, line) -> Counter:
    """How many other readings of a line's claim have each verdict in its study, uncorrected."""
    same = (table.claim == line.claim) & (table.study == line.study)
    return Counter(table.uncorrected[same & (table.outcome != line.outcome)])
