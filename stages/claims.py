"""The ledger: every claim of the paper, what it published, what our studies measured, a verdict."""

import argparse
import math
from pathlib import Path

import pandas as pd

from tla.files import write_metrics, write_table, write_text
from tla.report import figures
from tla.report.cost import COUNTED, TIMED
from tla.report.fill import fill
from tla.report.labels import outcome_label
from tla.report.ledger import Summary, counts, headline, ledger, load_summary, path_of, studied
from tla.train.methods import load_study

DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10", "tiny-imagenet": "Tiny ImageNet", "any": "any"}
BRIEF = ["claim", "verdict", "data", "the paper says", "published", "ours", "95 % interval",
         "had to exceed", "published lies", "p (Holm)", "seeds won", "images"]
ALL = ["claim", "verdict", "study", "measured by", *BRIEF[3:], "data"]


def number(value: float, form: str) -> str:
    """A number as text, empty where there is none."""
    return "" if pd.isna(value) else form.format(value)


def lies(line) -> str:
    """Where the published value lies, seen from our interval."""
    if pd.isna(line.low) or pd.isna(line.published):
        return ""
    if line.published > line.high:
        return "above"
    return "below" if line.published < line.low else "inside"


def cells(line) -> dict[str, str]:
    """What a line of the ledger says, as text; empty where there is nothing to say."""
    wanting = line.resolvable if line.verdict == "not resolved" else math.nan
    return {
        "claim": line.claim, "verdict": line.verdict, "data": DATA[line.data], "study": line.study,
        "the paper says": line.says, "published": number(line.published, "{:+.2f}"),
        "measured by": "" if line.verdict == "not run" else outcome_label(line.outcome),
        "ours": number(line.ours, "{:+.2f}") + (" ⚑" if line.masked is True else ""),
        "95 % interval": number(line.low, "[{:+.2f}, ") + number(line.high, "{:+.2f}]"),
        "had to exceed": number(wanting, "{:.1f}"),
        "published lies": lies(line), "images": number(line.images, "{:,.0f}"),
        "seeds won": number(line.seeds_won, f"{{:.0f}} of {line.seeds:.0f}"),
        "p (Holm)": "<0.001" if line.p_holm < 0.001 else number(line.p_holm, "{:.2g}")}


def as_markdown(lines: pd.DataFrame, columns: list[str]) -> str:
    """Lines of the ledger as a Markdown table."""
    table = pd.DataFrame([cells(line) for line in lines.itertuples()], columns=columns)
    return table.to_markdown(index=False, disable_numparse=True)


def costs(table: pd.DataFrame, summary: Summary) -> list[dict]:
    """For each claim of cost and each study: the count, the time or None, and the claim's verdict.

    Count and time are percent more than the baseline's; the verdict is that of the first reading.
    """
    found = []
    for claim in summary.claims:
        lines = table[(table.claim == claim.id) & table.ours.notna()]
        if claim.kind == "cost":
            for study, part in lines.groupby("study", sort=False):
                read = {line.outcome: line for line in part.itertuples()}
                found.append({"claim": claim, "study": study, "verdict": part.verdict.iloc[0],
                              "counted": read[COUNTED], "timed": read.get(TIMED)})
    return found


def markdown(template: str, table: pd.DataFrame, summary: Summary) -> str:
    """claims.md: verdicts on the claims' own data, their picture, then every line."""
    first = headline(table)
    unmeasured = [claim for claim in summary.claims if claim.kind == "unmeasured"]
    waiting = {}
    for line in first[first.verdict == "not run"].itertuples():
        if line.claim not in [claim.id for claim in unmeasured]:
            waiting.setdefault(DATA[line.data], []).append(line.claim)
    return fill(template, total=len(first), counts=counts(table),
                brief=as_markdown(first[first.verdict != "not run"], BRIEF),
                equal=[claim for claim in summary.claims if claim.equal_within],
                costs=costs(table, summary), waiting=waiting, unmeasured=unmeasured,
                every=as_markdown(table, ALL))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="params.yaml of the claims")
    summary, out = load_summary(parser.parse_args(argv).config), Path("reports")

    table = ledger(summary, {name: load_study(path_of(name)) for name in studied(summary)})
    write_table(out / "claims.csv", table, exact=True)
    template = Path(__file__).with_suffix(".md").read_text()
    write_text(out / "claims.md", markdown(template, table, summary))
    first = headline(table)
    unit = [claim.id for claim in summary.claims if claim.kind != "cost"]   # those have percent
    drawn = first[(first.verdict != "not run") & first.claim.isin(unit)]
    figures.save(figures.claim_forest(drawn.assign(label=drawn.claim + "  " + drawn.says)),
                 out / "figures", "claims")
    write_metrics(out / "claims.json",
                  {name.replace(" ", "_"): n for name, n in counts(table).items()})


if __name__ == "__main__":
    main()
