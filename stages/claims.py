"""The ledger: every claim of the paper, what it published, what our studies measured, a verdict."""

import tla.guard  # noqa: F401

import math
from pathlib import Path

import pandas as pd

from tla.command import config_parser
from tla.files import replacing, write_metrics, write_table, write_text
from tla.params import Params
from tla.report import figures
from tla.report.fill import fill
from tla.report.hypotheses import Summary, load_studies, load_summary
from tla.report.labels import DATA, outcome_label, p_value
from tla.report.ledger import counts, headline, ledger, left_out, lies, unread
from tla.report.verdicts import topic_of, verdict_text

BRIEF = ["claim", "verdict", "uncorrected", "data", "study", "network", "what is claimed",
         "published", "ours", "95 % interval", "had to exceed", "published lies", "p",
         "p (Holm)", "seeds won", "images"]
AXES = dict.fromkeys(("attack", "clean", "l2", "l0"), "points of accuracy") | {
    "knn": "points of accuracy of retrieval", "auc": "points of AUC"}       # of a topic
ALL = ["claim", "verdict", "uncorrected", "study", "network", "measured by", *BRIEF[6:], "data"]


def number(value: float, form: str) -> str:
    """A number as text, empty where there is none."""
    return "" if pd.isna(value) else form.format(value)


def called(line) -> str:
    """A claim's id, and that of the claim whose comparison it is too."""
    return line.claim if pd.isna(line.same_as) else f"{line.claim} = {line.same_as}"


def wanting(line) -> float:
    """Points that a difference had to exceed; NaN where it did, before and after correction."""
    if line.verdict == "not resolved":
        return line.resolvable_corrected
    return line.resolvable if line.uncorrected == "not resolved" else math.nan


def cells(line) -> dict[str, str]:
    """What a line of the ledger says, as text; empty where there is nothing to say."""
    return {
        "claim": called(line), "verdict": line.verdict, "uncorrected": line.uncorrected,
        "data": DATA[line.data], "study": line.study,
        "network": number(line.network, "{}"), "what is claimed": line.says,
        "published": number(line.published, "{:+.2f}"),
        "measured by": "" if line.verdict == "not run" else outcome_label(line.outcome),
        "ours": number(line.ours, "{:+.2f}"),
        "95 % interval": number(line.low, "[{:+.2f}, ") + number(line.high, "{:+.2f}]"),
        "had to exceed": number(wanting(line), "{:.1f}"),
        "published lies": lies(line), "images": number(line.images, "{:,.0f}"),
        "seeds won": number(line.seeds_won, f"{{:.0f}} of {line.seeds:.0f}"),
        "p": p_value(line.p), "p (Holm)": p_value(line.p_holm)}


def as_markdown(lines: pd.DataFrame, columns: list[str]) -> str:
    """Lines of the ledger as a Markdown table."""
    table = pd.DataFrame([cells(line) for line in lines.itertuples()], columns=columns)
    return table.to_markdown(index=False, disable_numparse=True)


def costs(table: pd.DataFrame, summary: Summary) -> list[dict]:
    """For each claim of cost and each study: its readings, and the verdict of the primary one.

    Readings are percent more than the baseline's.
    """
    found = []
    for claim in summary.claims:
        lines = table[(table.claim == claim.id) & table.ours.notna()]
        if claim.kind == "cost":
            for study, part in lines.groupby("study", sort=False):
                read = {line.outcome: line for line in part.itertuples()}
                primary = read.get(claim.primary)
                found.append({"claim": claim, "study": study, "lines": list(read.values()),
                              "verdict": primary.uncorrected if primary else "not run"})
    return found


def without_verdict(table: pd.DataFrame, summary: Summary) -> dict[str, list | dict]:
    """Claims that some study says why it lacks, and by data the others that no study has."""
    reasons, waiting = [claim for claim in summary.claims if claim.not_measured], {}
    explained = [claim.id for claim in reasons]
    first = headline(table)
    for line in first[first.verdict == "not run"].itertuples():
        if line.claim not in explained:
            waiting.setdefault(DATA[line.data], []).append(called(line))
    return {"reasons": reasons, "waiting": waiting}


def boxes(summary: Summary, studies: dict[str, Params]) -> dict[str, str]:
    """What each study of data of the paper says of every comparison, by the name of the study."""
    found = {}
    for data, names in summary.studies.items():
        for name in names if data != "any" else []:
            found[name] = verdict_text(studies[name], whole=True)
    return found


def markdown(template: str, table: pd.DataFrame, summary: Summary, said: dict[str, str]) -> str:
    """claims.md: verdicts on the claims' own data, their picture, then every line.

    said: the boxes of the studies, by name.
    """
    first = headline(table)
    untested = first[first.verdict.isin(["confirmed", "contradicted"]) & first.p.isna()]
    return fill(template, {"outcome": outcome_label}, total=len(first), said=said,
                level=summary.level,
                counts=counts(table, "verdict"), uncorrected=counts(table, "uncorrected"),
                left_out=left_out(table),
                untested=untested.to_dict("records"),
                same=[called(line) for line in first[first.same_as.notna()].itertuples()],
                brief=as_markdown(first[first.verdict != "not run"], BRIEF),
                equal=[claim for claim in summary.claims if claim.equal_within],
                costs=costs(table, summary), every=as_markdown(table, ALL),
                unread=unread(summary, table),
                **without_verdict(table, summary))


def counted(table: pd.DataFrame) -> dict[str, int]:
    """Claims by verdict, and of those that correction can change, by the uncorrected one."""
    before = counts(table, "uncorrected")
    numbers = counts(table, "verdict")
    for name in ("confirmed", "contradicted", "not resolved"):
        numbers[f"uncorrected {name}"] = before[name]
    return {name.replace(" ", "_"): n for name, n in numbers.items()}


def drawn_lines(table: pd.DataFrame, summary: Summary) -> pd.DataFrame:
    """The headlines that the figure shows: each comparison once, cost and what was not run not.

    Accuracy of retrieval has a panel of its own, as its differences dwarf the others.
    """
    first = headline(table)
    claims, labels, panels = {claim.id: claim for claim in summary.claims}, [], []
    for line in first.itertuples():
        of = "" if line.data == "any" else f"{DATA[line.data]}: "
        labels.append(f"{line.claim}  {of}{line.says}{number(line.images, ', {:,.0f} images')}")
        panels.append(AXES.get(topic_of(claims[line.claim])))
    lines = first.assign(label=labels, panel=panels)
    return lines[(lines.verdict != "not run") & lines.same_as.isna() & lines.panel.notna()]


def main(argv: list[str] | None = None) -> None:
    parser = config_parser(__doc__, "the claims")
    summary = load_summary(parser.parse_args(argv).config)

    studies = load_studies(summary)
    table = ledger(summary, studies)
    template = Path(__file__).with_suffix(".md").read_text()
    text = markdown(template, table, summary, boxes(summary, studies))
    forest = figures.claim_forest(drawn_lines(table, summary))
    with replacing(Path("reports")) as out:
        write_table(out / "claims.csv", table, exact=True)
        write_text(out / "claims.md", text)
        figures.save(forest, out / "figures", "claims")
        write_metrics(out / "claims.json", counted(table))


if __name__ == "__main__":
    main()
