"""The ledger: every claim of the paper, what it published, what our studies measured, and a verdict."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from tla import figures
from tla.files import read_metrics, write_metrics, write_table, write_text
from tla.ledger import Claim, Summary, load_summary, path_of, verdict, with_holm
from tla.names import attack_label
from tla.params import Params, load_params
from tla.statistics import student

CONVENTIONS = {"last": "after the last step", "worst": "at every step"}
# Another data set can agree or disagree with a claim, not settle it.
BESIDE = {"confirmed": "agrees", "contradicted": "disagrees"}
VERDICTS = ("confirmed", "contradicted", "not resolved", "not run")
DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10", "tiny-imagenet": "Tiny ImageNet"}
BRIEF = ["claim", "data", "the paper says", "published", "ours", "95 % interval", "verdict", "could resolve"]
ALL = [*BRIEF, "study", "measured by", "images", "seeds", "p (Holm)"]


def measured(claim: Claim, params: Params) -> pd.DataFrame:
    """A line per outcome of the claim that a study has: difference, interval, p, images and seeds."""
    if claim.kind == "unmeasured":
        return pd.DataFrame()
    model, baseline = (f"tla-b{params.mining.batch}" if m == "tla" else m for m in (claim.model, claim.baseline))
    if claim.kind == "level":
        return _level(claim, params, model)
    name = "differences" if claim.kind == "accuracy" else "auc-differences"
    table = pd.read_csv(Path("reports", params.dataset, "tables", f"{name}.csv"))
    found = table[(table.model == model) & (table.baseline == baseline)]
    if claim.kind == "auc":
        found = found.assign(outcome=found.score + found.eps_factor.map(", eps x {:g}".format), images=np.nan)
    # The readings in the order of the claim; a score stands for itself at every eps.
    return pd.concat([found[(found.outcome == o) | found.outcome.str.startswith(f"{o}, ")] for o in claim.outcomes])


def _level(claim: Claim, params: Params, model: str) -> pd.DataFrame:
    """AUC of one model minus chance, from its mean and spread over seeds."""
    metrics, lines = read_metrics(Path("reports", params.dataset, "metrics", f"detect-{model}.json")), []
    for score in claim.outcomes:
        for factor in params.detect.eps_factors:
            name, seeds = f"misclassified_{score}_auc_eps_{factor:g}", len(params.seeds)
            if name in metrics:
                lines.append(student(metrics[name] - 0.5, metrics[f"{name}_std"]**2 / seeds, seeds - 1) | {
                    "outcome": f"{score}, eps x {factor:g}", "images": np.nan, "seeds": seeds})
    return pd.DataFrame(lines)


def ledger(summary: Summary, studies: dict[str, Params]) -> pd.DataFrame:
    """All lines, in points; a claim that no study of its data measured has one line with the verdict `not run`."""
    lines = []
    for claim in summary.claims:
        about = {"claim": claim.id, "data": claim.data, "says": claim.says, "published": claim.published,
                 "source": claim.source}
        own, beside = ([about | {
            "study": name, "outcome": line.outcome, "ours": 100 * line.difference, "low": 100 * line.low,
            "high": 100 * line.high, "p": line.p, "images": line.images, "seeds": line.seeds,
            "verdict": verdict(line.low, line.high, claim.direction)}
            for name in names for line in measured(claim, studies[name]).itertuples()]
            for names in (summary.studies.get(claim.data, []), summary.beside))
        lines += own or [about | {"study": "", "verdict": "not run"}]
        lines += [line | {"verdict": BESIDE.get(line["verdict"], line["verdict"])} for line in beside]
    return with_holm(pd.DataFrame(lines))


def outcome_label(outcome: str) -> str:
    """'pgd_400_last' -> 'PGD-400, after the last step'; others are shown as they are."""
    attack, _, convention = outcome.rpartition("_")
    if convention in CONVENTIONS:
        return f"{attack_label(attack)}, {CONVENTIONS[convention]}"
    return {"autoattack": "AutoAttack", "knn": "k-NN of the adversarial query"}.get(outcome, outcome)


def headline(table: pd.DataFrame, summary: Summary) -> pd.DataFrame:
    """One line a claim: on its own data, by the first reading, which is the one that the paper most likely means."""
    return table[table.study.isin(["", *sum(summary.studies.values(), [])])].drop_duplicates("claim")


def counts(table: pd.DataFrame, summary: Summary) -> dict[str, int]:
    """How many claims got each verdict in their headline."""
    found = headline(table, summary).verdict
    return {v: int((found == v).sum()) for v in VERDICTS}


def cells(line) -> dict[str, str]:
    """What a line of the ledger says, as text."""
    run = line.verdict != "not run"
    return {
        "claim": line.claim, "data": DATA[line.data], "the paper says": line.says,
        "published": "" if pd.isna(line.published) else f"{line.published:+.2f}",
        "ours": f"{line.ours:+.2f}" if run else "",
        "95 % interval": f"[{line.low:+.2f}, {line.high:+.2f}]" if run else "",
        "verdict": line.verdict, "could resolve": f"{line.resolvable:.1f}" if line.verdict == "not resolved" else "",
        "study": line.study, "measured by": outcome_label(line.outcome) if run else "",
        "images": f"{line.images:,.0f}" if run and pd.notna(line.images) else "",
        "seeds": f"{line.seeds:.0f}" if run else "", "p (Holm)": f"{line.p_holm:.2g}" if run else ""}


def as_markdown(lines: pd.DataFrame, columns: list[str]) -> str:
    """Lines of the ledger as a Markdown table."""
    return pd.DataFrame(map(cells, lines.itertuples()), columns=columns).to_markdown(index=False, disable_numparse=True)


def markdown(table: pd.DataFrame, summary: Summary) -> str:
    """claims.md: verdicts on the claims' own data, their picture, then every line."""
    first, found = headline(table, summary), counts(table, summary)
    run, absent = first[first.verdict != "not run"], first[first.verdict == "not run"]
    missing = [f"- {DATA[data]}: {', '.join(part.claim)}" for data, part in absent.groupby("data", sort=False)]
    return f"""# Which of the paper's claims hold?

{len(first)} claims. On their own data, by the reading that the paper most likely means: {', '.join(f'{n} {v}' for v, n in found.items())}.

{as_markdown(run, BRIEF)}

Differences in points (of accuracy or AUC) by which TLA is ahead of the baseline, or as the claim says, with 95 %
intervals over test images and training seeds. *confirmed*: the interval lies on the claimed side of zero;
*contradicted*: on the other; *not resolved*: it includes zero, and *could resolve* is the smallest effect that could
have been told from none.

![Published and our difference for each claim that was run: {found["confirmed"]} confirmed, {found["contradicted"]} contradicted, {found["not resolved"]} not resolved](figures/claims.png)

Not run, for want of a study of their data:

{chr(10).join(missing)}

## Every claim, every reading

Where an attack or score can be read in more than one way, each reading has its line; AutoAttack stands beside.
*p (Holm)* is corrected for the number of lines of the study. Lines of {' and '.join(summary.beside)} stand beside as
another data set, which can agree or disagree with a claim but not settle it. Published numbers and their sources:
[published.csv](published.csv). Everything here in full: [claims.csv](claims.csv).

{as_markdown(table, ALL)}
"""


def forest(table: pd.DataFrame, summary: Summary) -> None:
    """The picture of the verdicts."""
    first = headline(table, summary)
    figures.save(figures.claim_forest(first[first.verdict != "not run"].assign(
        label=lambda lines: lines.claim + "  " + lines.says)), Path("reports", "figures"), "claims")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="params.yaml of the claims")
    summary = load_summary(parser.parse_args(argv).config)

    names = [*sum(summary.studies.values(), []), *summary.beside]
    studies = {name: load_params(path_of(name)) for name in names}
    table = ledger(summary, studies)
    write_table(Path("reports", "claims.csv"), table)
    write_text(Path("reports", "claims.md"), markdown(table, summary))
    forest(table, summary)
    write_metrics(Path("reports", "claims.json"), {v.replace(" ", "_"): n for v, n in counts(table, summary).items()})


if __name__ == "__main__":
    main()
