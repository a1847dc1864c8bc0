"""The ledger: every claim of the paper, what it published, what our studies measured, and a verdict."""

import argparse
from pathlib import Path

import pandas as pd

from tla import figures
from tla.files import write_metrics, write_table, write_text
from tla.fill import fill
from tla.ledger import Claim, Summary, load_summary, path_of, studied, verdict, with_holm
from tla.names import attack_label, flagged
from tla.params import Params, load_params
from tla.statistics import significant

CONVENTIONS = {"last": "after the last step", "worst": "at every step"}
# Another data set, or one training run, can agree or disagree with a claim, not settle it.
BESIDE = {"confirmed": "agrees", "contradicted": "disagrees"}
VERDICTS = ("confirmed", "contradicted", "not resolved", "undefined", "not run")
DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10", "tiny-imagenet": "Tiny ImageNet"}
BRIEF = ["claim", "verdict", "data", "the paper says", "published", "ours", "95 % interval", "had to exceed",
         "published lies", "p (Holm)", "seeds won", "images"]
ALL = ["claim", "verdict", "study", "measured by", *BRIEF[3:], "data"]


def measured(claim: Claim, params: Params) -> pd.DataFrame:
    """A line per reading of the claim that a study has: difference, interval, p, images, seeds, sign of masking."""
    model, baseline = (f"tla-b{params.mining.batch}" if m == "tla" else m for m in (claim.model, claim.baseline))
    tables = Path("reports", params.dataset, "tables")
    found = pd.read_csv(tables / ("auc-differences.csv" if claim.kind == "auc" else "differences.csv"))
    found = found[(found.model == model) & (found.baseline == baseline)]
    if claim.kind == "auc":     # the paper's eps is larger than in training
        found = found.assign(training=found.eps_factor <= 1).sort_values(["training", "eps_factor"], kind="stable")
        found = found.assign(outcome=found.score + found.eps_factor.map(", eps x {:g}".format))
    masked = not {model, baseline}.isdisjoint(flagged(pd.read_csv(tables / "masking.csv")))
    # The readings in the order of the claim; a score stands for itself at every eps.
    return pd.concat([found[(found.outcome == o) | found.outcome.str.startswith(f"{o}, ")]
                      for o in claim.outcomes] or [found[:0]]).assign(masked=masked)


def ledger(summary: Summary, studies: dict[str, Params]) -> pd.DataFrame:
    """All lines, in points; a claim that no study of its data measured has one line with the verdict `not run`."""
    lines = []
    for claim in summary.claims:
        about = {"claim": claim.id, "data": claim.data, "says": claim.says, "model": claim.model,
                 "baseline": claim.baseline, "published": claim.published, "source": claim.source}
        names = summary.studies.get(claim.data, [])
        own, beside = ([about | {
            "study": name, "own_data": name in names, "outcome": line.outcome, "ours": 100 * line.difference,
            "low": 100 * line.low, "high": 100 * line.high, "p": line.p, "seeds_won": line.seeds_won,
            "images": line.images, "seeds": line.seeds, "masked": line.masked,
            "verdict": verdict(claim, 100 * line.low, 100 * line.high)}
            for name in chosen for line in measured(claim, studies[name]).itertuples()]
            for chosen in (names, [name for name in summary.beside if name not in names]))
        lines += own or [about | {"study": "", "own_data": True, "verdict": "not run"}]
        lines += beside
    table = with_holm(pd.DataFrame(lines))
    weak = ~table.own_data | (table.seeds < 2)
    return table.assign(verdict=table.verdict.replace(BESIDE).where(weak, table.verdict))


def outcome_label(outcome: str) -> str:
    """'pgd_400_last' -> 'PGD-400, after the last step'; others are shown as they are."""
    attack, _, convention = outcome.rpartition("_")
    if convention in CONVENTIONS:
        return f"{attack_label(attack)}, {CONVENTIONS[convention]}"
    return {"autoattack": "AutoAttack", "knn": "k-NN of the adversarial query"}.get(outcome, outcome)


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """One line a claim: on its own data, by the first reading, which is the one that the paper most likely means."""
    return table[table.own_data].drop_duplicates("claim")


def counts(table: pd.DataFrame) -> dict[str, int]:
    """How many claims got each verdict in their headline."""
    found = headline(table).verdict
    return {v: int((found == v).sum()) for v in VERDICTS}


def cells(line) -> dict[str, str]:
    """What a line of the ledger says, as text; empty where there is nothing to say."""
    def number(value: float, form: str) -> str:
        return "" if pd.isna(value) else form.format(value)

    known = pd.notna(line.low) and pd.notna(line.published)
    return {
        "claim": line.claim, "data": DATA[line.data], "the paper says": line.says,
        "published": number(line.published, "{:+.2f}"),
        "ours": number(line.ours, "{:+.2f}") + (" ⚑" if line.masked is True else ""),
        "95 % interval": number(line.low, "[{:+.2f}, ") + number(line.high, "{:+.2f}]"), "verdict": line.verdict,
        "had to exceed": number(line.resolvable, "{:.1f}") if line.verdict == "not resolved" else "",
        "published lies": "" if not known else "above" if line.published > line.high
        else "below" if line.published < line.low else "inside",
        "study": line.study, "measured by": "" if line.verdict == "not run" else outcome_label(line.outcome),
        "images": number(line.images, "{:,.0f}"),
        "seeds won": number(line.seeds_won, f"{{:.0f}} of {line.seeds:.0f}"),
        "p (Holm)": "<0.001" if line.p_holm < 0.001 else number(line.p_holm, "{:.2g}")}


def as_markdown(lines: pd.DataFrame, columns: list[str]) -> str:
    """Lines of the ledger as a Markdown table."""
    return pd.DataFrame(map(cells, lines.itertuples()), columns=columns).to_markdown(index=False, disable_numparse=True)


def markdown(template: str, table: pd.DataFrame, summary: Summary) -> str:
    """claims.md: verdicts on the claims' own data, their picture, then every line."""
    first, unmeasured = headline(table), [claim for claim in summary.claims if claim.kind == "unmeasured"]
    waiting = first[(first.verdict == "not run") & ~first.claim.isin([claim.id for claim in unmeasured])]
    return fill(template, total=len(first), counts=counts(table),
                brief=as_markdown(first[first.verdict != "not run"], BRIEF),
                equal=[claim for claim in summary.claims if claim.equal_within],
                waiting={DATA[data]: list(part.claim) for data, part in waiting.groupby("data", sort=False)},
                unmeasured=unmeasured, every=as_markdown(table, ALL))


def forest(table: pd.DataFrame) -> None:
    """The picture of the verdicts."""
    first = headline(table)
    figures.save(figures.claim_forest(first[first.verdict != "not run"].assign(
        label=lambda lines: lines.claim + "  " + lines.says)), Path("reports", "figures"), "claims")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="params.yaml of the claims")
    summary = load_summary(parser.parse_args(argv).config)

    names = studied(summary)
    studies = {name: load_params(path_of(name)) for name in names}
    table = ledger(summary, studies)
    write_table(Path("reports", "claims.csv"), significant(table))
    write_text(Path("reports", "claims.md"), markdown(Path(__file__).with_suffix(".md").read_text(), table, summary))
    forest(table)
    write_metrics(Path("reports", "claims.json"), {v.replace(" ", "_"): n for v, n in counts(table).items()})


if __name__ == "__main__":
    main()
