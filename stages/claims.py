"""The ledger: every claim of the paper, what it published, what our studies measured, and a verdict."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from tla.files import read_metrics, write_metrics, write_table, write_text
from tla.ledger import Claim, Summary, load_summary, verdict, with_holm
from tla.names import attack_label
from tla.params import Params, load_params
from tla.statistics import student

CONVENTIONS = {"last": "after the last step", "worst": "at every step"}
# Another data set can agree or disagree with a claim, not settle it.
BESIDE = {"confirmed": "agrees", "contradicted": "disagrees"}
VERDICTS = ("confirmed", "contradicted", "not resolved", "not run")


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


def counts(table: pd.DataFrame, summary: Summary) -> dict[str, int]:
    """How many claims got each verdict on their own data, by the first reading of each."""
    own = table[table.study.isin(["", *sum(summary.studies.values(), [])])].drop_duplicates("claim")
    return {v: int((own.verdict == v).sum()) for v in VERDICTS}


def markdown(table: pd.DataFrame, summary: Summary) -> str:
    """claims.md: a count of verdicts on the claims' own data, then every line."""
    found, lines = counts(table, summary), []
    for line in table.itertuples():
        run = line.verdict != "not run"
        lines.append({
            "claim": line.claim, "data": line.data, "TLA is": line.says,
            "published": "" if pd.isna(line.published) else f"{line.published:+.2f}",
            "study": line.study, "measured by": outcome_label(line.outcome) if run else "",
            "ours": f"{line.ours:+.2f}" if run else "",
            "95 % interval": f"[{line.low:+.2f}, {line.high:+.2f}]" if run else "",
            "p (Holm)": f"{line.p_holm:.2g}" if run else "", "verdict": line.verdict + (
                f" (could resolve {line.resolvable:.1f})" if line.verdict == "not resolved" else "")})
    return f"""# Which of the paper's claims hold?

{sum(found.values())} claims. On their own data, by the reading that the paper most likely means:
{', '.join(f'{n} {v}' for v, n in found.items())}.

Differences in points (of accuracy or AUC) between TLA and the baseline, or as the claim says, with 95 % intervals over
test images and training seeds. *confirmed*: the interval lies on the claimed side of zero; *contradicted*: on the
other; *not resolved*: it includes zero, and the number is the smallest effect that could have been told from none.
*p (Holm)* is corrected for the number of lines of the study. Lines of {' and '.join(summary.beside)} stand beside as
another data set, which can agree or disagree with a claim but not settle it.
Published numbers and their sources: [published.csv](published.csv). Everything here in full: [claims.csv](claims.csv).

{pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)}
"""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="params.yaml of the claims")
    summary = load_summary(parser.parse_args(argv).config)

    names = [*sum(summary.studies.values(), []), *summary.beside]
    studies = {name: load_params("params.yaml" if name == "digits" else f"experiments/{name}/params.yaml")
               for name in names}
    table = ledger(summary, studies)
    write_table(Path("reports", "claims.csv"), table)
    write_text(Path("reports", "claims.md"), markdown(table, summary))
    write_metrics(Path("reports", "claims.json"), {v.replace(" ", "_"): n for v, n in counts(table, summary).items()})


if __name__ == "__main__":
    main()
