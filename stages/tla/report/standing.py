"""The standing of one more model among those of a study, from its rows and the study's metrics."""

from pathlib import Path

import pandas as pd

from tla.files import read_metrics
from tla.outcomes import Outcome
from tla.params import Params
from tla.report.detection import SCORES, TASKS, auc_lines
from tla.report.intact import read_table, table_path
from tla.report.labels import attack_label, flagged, percent
from tla.report.signs import SIGNS, masking_line
from tla.report.tables import accuracy_lines, lookup, retrieval_line, withstood
from tla.report.text import shown_outcomes
from tla.train.methods import label

OWN = "→ "      # marks the line of the model in the table


def standing_table(params: Params, name: str, metrics: dict[str, float]) -> str:
    """Accuracies in percent as Markdown, the study's models and this one, most robust first.

    metrics: its own, as `suite_metrics` has them. A model of the study that was not measured has no
    line.
    """
    heads = {outcome: head for outcome, head in shown_outcomes(params).items()
             if f"{outcome}_accuracy" in metrics}
    found = []
    for model in params.models:
        path = Path("reports", params.dataset, "metrics", f"{model}.json")
        if path.exists():
            found.append((label(model, params), read_metrics(path)))
    found.append((OWN + name, metrics))
    found.sort(key=lambda line: line[1]["robust_accuracy"], reverse=True)
    lines = []
    for called, numbers in found:
        cells = {head: percent(numbers[f"{outcome}_accuracy"]) for outcome, head in heads.items()}
        lines.append({"model": called} | cells | {"images": numbers["images"]})
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)


def masked_models(params: Params) -> list[str] | None:
    """Labels of the study's models that show a sign of gradient masking; None if not measured."""
    if not table_path(params, "masking").exists():
        return None
    return [label(name, params) for name in flagged(read_table(params, "masking"))]


def masking_signs(params: Params, suite: pd.DataFrame, masking: pd.DataFrame,
                  transfer: pd.DataFrame | None) -> list[dict]:
    """Each sign of gradient masking that was looked for: sign, value, flag and what it means.

    transfer: rows of images that other models made; without them that sign is left out.
    """
    looked_for, others = list(SIGNS), pd.Series(dtype=float)
    if transfer is None:
        looked_for.remove("transfer")
    else:
        others = withstood(transfer, "scored")
    pgd = params.evaluate.outcomes("pgd")[-1]
    line = masking_line(suite.set_index("idx"), masking, others, pgd, params.masking.tolerance)
    return [{"sign": sign, "value": line[sign], "flag": line[f"flag_{sign}"],
             "means": SIGNS[sign]} for sign in looked_for]


def suite_facts(params: Params, suite: pd.DataFrame, masking: pd.DataFrame) -> dict:
    """The interval of robust, what AutoAttack complained of, and what HopSkipJump found."""
    robust = next(line for line in accuracy_lines(suite) if line["outcome"] == "robust")
    complaints = suite.filter(regex="^complaint_").max()
    distance = masking.hop_skip_distance.dropna()
    return {"robust": robust, "tried": _tried(params),
            "complaints": [name.removeprefix("complaint_") for name in complaints.index
                           if complaints[name]],
            "hop_skip": {"right": (distance > params.attack.eps).mean(), "images": len(distance),
                         "queries": masking.hop_skip_queries.mean()}}


def _tried(params: Params) -> list[str]:
    return [attack_label(Outcome(name)) for name in params.evaluate.attacks]


def embedding_facts(params: Params, detect: pd.DataFrame, neighbors: pd.DataFrame) -> dict:
    """AUC of every score at every eps, and retrieval, of a model with an embedding."""
    auc = pd.DataFrame(auc_lines(detect, params.compare.least))
    return {"tasks": TASKS, "scores": SCORES, "factors": sorted(set(detect.eps_factor)),
            "auc": lookup(auc, "task", "score", "eps_factor"),
            "retrieval": retrieval_line(neighbors)[0]}
