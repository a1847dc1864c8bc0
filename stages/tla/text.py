"""The tables of REPORT.md as Markdown, and the facts its template puts into words. Imports no torch."""

from collections.abc import Iterable
from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined

from tla.names import attack_label, flagged, model_label, percent, points
from tla.params import Params
from tla.published import published
from tla.signs import SIGNS

TASKS = {"misclassified": "wrong vs right, both adversarial", "adversarial": "fooling adversarial vs clean"}
SCORES = {"softmax": "largest softmax probability", "neighbors": "cosine distance to neighbours",
          "mixture": "Gaussian-mixture likelihood"}
SOURCES = {"noise": "uniform noise", "photos": "crops of photographs", "digits": "8x8 digits, enlarged",
           "mnist": "MNIST", "cifar10": "CIFAR-10 in grey"}
AUTOATTACK = {"apgd-ce": "APGD, cross-entropy", "apgd-t": "APGD, targeted", "fab-t": "FAB, targeted", "square": "Square"}
BLACKBOX = {"transfer": "strongest other source", "grey_box": "its method, another seed", "square": "Square",
            "hop_skip": "HopSkipJump"}
DISTANCES = {"clean_same_class_distance": "clean, own class", "clean_other_class_distance": "clean, other classes",
             "adv_same_class_distance": "adversarial, own class", "adv_other_class_distance": "adversarial, other classes"}
TABLES = ("accuracy", "differences", "autoattack", "transfer", "classic", "label-leaking", "masking", "ood")


def read_tables(params: Params, root: Path = Path()) -> dict[str, pd.DataFrame]:
    """The tables that the texts are written from."""
    folder = root / "reports" / params.dataset / "tables"
    return {name: pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""]) for name in TABLES}


def outcomes(params: Params) -> dict[str, str]:
    """Columns of the results table and how they are headed; the long PGD run counts at its largest budget."""
    first, longest = params.evaluate.attacks["pgd"].steps[0], params.evaluate.attacks["pgd"].steps[-1]
    return {"clean": "clean", "fgsm_last": "FGSM", f"pgd_{first}_last": f"PGD-{first}",
            f"pgd_{longest}_last": f"PGD-{longest}", "pgd_restarts_last": "PGD, restarts", "cw_last": "C&W",
            "mim_last": "MIM", "union_worst": "union"}


def bars(params: Params) -> dict[str, str]:
    """The poster's attacks, the other reading of its long run, and the union."""
    return {k: v for k, v in outcomes(params).items() if k not in ("clean", "fgsm_last", _first(params))}


def sweep(params: Params) -> dict[str, str]:
    """Attacks of the pool-size figure: the poster's, with its short PGD run, and the union."""
    return {k: v for k, v in outcomes(params).items() if k in (_first(params), "cw_last", "mim_last", "union_worst")}


def _first(params: Params) -> str:
    return list(outcomes(params))[2]


def poster_auc(params: Params) -> str:
    """One line with the AUCs that the poster prints for this data set; empty for other data sets."""
    lines = published(params, "ROC").drop_duplicates("model").itertuples()
    values = ", ".join(f"{line.model} {line.value:.4f}" for line in lines)
    return values and f"AUC on the poster, score and eps not stated: {values}"


def mean_auc(params: Params, metrics: dict, task: str, score: str, factor: float, images: int) -> float | None:
    """AUC of the metrics of a detect stage; None where a seed has too few images right, or wrong, to mean anything.

    images: test images of all seeds, divided among them where each has a fold.
    """
    accuracy = metrics[f"accuracy_eps_{factor:g}"]
    fewest = min(accuracy, 1 - accuracy) * images / (params.data.folds or 1)
    if task == "misclassified" and fewest < params.compare.least:
        return None
    return metrics.get(f"{task}_{score}_auc_eps_{factor:g}")


def markdown(lines: Iterable[dict], params: Params | None = None) -> str:
    """A Markdown table; with `params`, names in the column `model` are replaced by their labels."""
    table = pd.DataFrame(lines)
    if params:
        table["model"] = [model_label(name, params) for name in table.model]
    return table.to_markdown(index=False, disable_numparse=True)


def results_table(params: Params, tables: dict[str, pd.DataFrame], commands: bool) -> str:
    """Accuracy in percent, one line a model; `commands` adds what makes the line.

    tables: autoattack, masking (a flagged model is marked) and accuracy with columns name, outcome, accuracy,
    low, high, std, images. Where long attacks see only the first test images, each accuracy is over those its
    attack saw, and the union over those all saw.
    """
    lines, accuracy, marked = [], tables["accuracy"], flagged(tables["masking"])
    autoattack = tables["autoattack"].set_index("model")

    def headed(label: str, images: int) -> str:
        return label if images == accuracy.images.max() else f"{label} ({images:,})"

    for name, part in accuracy.groupby("name", sort=False):
        part = part.set_index("outcome")
        line = {"method": model_label(name, params) + (" ⚑" if name in marked else "")}
        line |= {headed(label, part.images[outcome]): percent(part.accuracy[outcome])
                 for outcome, label in outcomes(params).items()}
        line[headed("AutoAttack", autoattack.images[name])] = percent(autoattack.square[name])
        union = part.loc["union_worst"]
        line["95 % interval"] = f"{percent(union.low)}–{percent(union.high)}"
        line["seeds"] = f"± {percent(union['std'])}"
        lines.append(line | ({"command": f"`dvc repro evaluate@{name}`"} if commands else {}))
    return markdown(lines)


def report_text(template: str, params: Params, tables: dict[str, pd.DataFrame], metrics: dict) -> str:
    """The whole page. `metrics` maps 'detect-at' and the like to the metrics of that stage, `tables` names to tables."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"percent": percent, "points": points, "comma": "{:,}".format, "verdict": _resolved,
                            "label": partial(model_label, params=params), "pool": lambda name: name.removeprefix("tla-b")}
    facts = _white_box(params, tables) | _beyond(params, tables, metrics["blackbox"]) | _embedding(params, metrics, tables["accuracy"].images.max())
    return environment.from_string(template).render(params=params, signs=SIGNS, **facts)


def _records(table: pd.DataFrame) -> list:
    return list(table.itertuples())


def _white_box(params: Params, tables: dict[str, pd.DataFrame]) -> dict:
    accuracy, differences = tables["accuracy"], tables["differences"]
    unions = accuracy[accuracy.outcome == "union_worst"]
    found = differences[differences.outcome == "union_worst"].assign(verdict=lambda lines: lines.apply(_resolved, axis=1))
    pair = {(line.model, line.baseline): line for line in found.itertuples()}
    family, tla = found[(found.model != "um") & (found.baseline != "um")], f"tla-b{params.mining.batch}"
    return {
        "accuracy": _records(accuracy), "capped": accuracy.images.nunique() > 1, "unions": _records(unions),
        "pools": _records(unions[unions.name.str.startswith("tla-b")].sort_values("accuracy", kind="stable")),
        "results": results_table(params, tables, commands=False), "diamonds": not published(params, "bars").empty,
        "differences": markdown(_differences(params, differences)),
        "gain": pair["at", "um"], "over_at": pair[tla, "at"], "over_alp": pair[tla, "alp"],
        "half_width": (100 * (family.high - family.low) / 2).max(),
        "yes": _records(family[family.verdict != "no"]), "no": _records(family[family.verdict == "no"]),
        "against": _records(found[(found.model == tla) & found.baseline.str.startswith("tla-b")])}


def _differences(params: Params, differences: pd.DataFrame) -> Iterable[dict]:
    for d in differences[differences.outcome.isin(["clean", list(bars(params))[0], "union_worst"])].itertuples():
        yield {"pair": f"{model_label(d.model, params)} − {model_label(d.baseline, params)}",
               "under": attack_label(d.outcome.rpartition("_")[0] or d.outcome),
               "difference, points": points(d.difference),
               "95 % interval": f"[{points(d.low)}, {points(d.high)}]",
               "seeds won": f"{d.seeds_won} of {d.seeds}", "resolved": _resolved(d)}


def _resolved(difference) -> str:
    return "yes, higher" if difference.low > 0 else "yes, lower" if difference.high < 0 else "no"


def _beyond(params: Params, tables: dict[str, pd.DataFrame], blackbox: dict[str, float]) -> dict:
    transfer, masking, ood = tables["transfer"], tables["masking"], tables["ood"]
    label = {name: model_label(name, params) for name in transfer.source}
    matrix = transfer.set_index("source").rename(index=label, columns=label).map(percent).rename_axis("images from")
    wide = ood.pivot(index=["source", "score"], columns="model", values="auc").loc[params.ood.sources]
    wide = wide[list(dict.fromkeys(ood.model))].rename(columns=partial(model_label, params=params)).reset_index()
    return {
        "autoattack_images": tables["autoattack"].images.max(), "flagged": flagged(masking),
        "autoattack": markdown(_autoattack(tables["autoattack"]), params),
        "blackbox": markdown(({"model": name} | {head: percent(blackbox[f"{name}_{key}"]) for key, head in BLACKBOX.items()}
                              for name in transfer.source), params),
        "transfer": matrix.to_markdown(disable_numparse=True),
        "masking": markdown(({"model": line["model"]} | {
            name.replace("_", " "): points(line[name]) + " ⚑" * line[f"flag_{name}"] for name in SIGNS}
            for line in masking.to_dict("records")), params),
        "classic": markdown(_classic(tables["classic"]), params), "leaking": markdown(_leaking(tables["label-leaking"]), params),
        "ood": wide.assign(source=wide.source.map(SOURCES)).to_markdown(index=False, floatfmt=".3f")}


def _autoattack(table: pd.DataFrame) -> Iterable[dict]:
    for line in table.to_dict("records"):
        yield {"model": line["model"], "clean": percent(line["clean"])} | {
            label: percent(line[name]) for name, label in AUTOATTACK.items()} | {
            "95 % interval": f"{percent(line['low'])}–{percent(line['high'])}",
            "complaints": sum(v for k, v in line.items() if k.startswith("check_"))}


def _classic(table: pd.DataFrame) -> Iterable[dict]:
    for line in table.itertuples():
        yield {"model": line.model, "accuracy without a ball": percent(line.domain_accuracy),
               "chosen class, one step": percent(line.chosen_one_step_success),
               "iterative": percent(line.chosen_iterative_success),
               "least likely class, one step": percent(line.least_likely_one_step_success),
               "iterative ": percent(line.least_likely_iterative_success),
               "median L∞": f"{line.smallest_linf_median:.3f}", "median L2": f"{line.smallest_l2_median:.2f}"}


def _leaking(table: pd.DataFrame, shown: tuple[str, ...] = ("kurakin", "at", "um")) -> Iterable[dict]:
    for (model, part), rows in table[table.model.isin(shown)].groupby(["model", "part"], sort=False):
        yield {"model": model, "images": part, "clean": percent(rows.clean.iloc[0])} | {
            f"eps {eps:g}": percent(value) + (" *" if value > rows.clean.iloc[0] else "")
            for eps, value in zip(rows.eps, rows.fgsm, strict=True)}


def _embedding(params: Params, metrics: dict, images: int) -> dict:
    def of(stage: str) -> list[tuple[str, dict]]:
        return [(model_label(name.removeprefix(stage), params), values) for name, values in metrics.items()
                if name.startswith(stage)]

    k = params.neighbors.k
    retrieval = {"clean_knn_accuracy": f"{k}-NN accuracy, clean", "adv_knn_accuracy": f"{k}-NN accuracy, adversarial",
                 f"adv_precision_at_{k}": f"precision@{k}, adversarial"}
    auc = []
    for (task, task_label), (score, score_label), factor in product(TASKS.items(), SCORES.items(), params.detect.eps_factors):
        found = {model: mean_auc(params, values, task, score, factor, images) for model, values in of("detect-")}
        auc.append({"question": task_label, "score": score_label, "eps": f"{factor:g} x training"} |
                   {model: "undefined" if v is None else f"{v:.3f}" for model, v in found.items()})
    return {"detection": markdown(auc), "poster_auc": poster_auc(params)} | {
        name: markdown({"model": model} | {label: f"{values[key]:.3f}" for key, label in columns.items()}
                       for model, values in of(stage))
        for name, stage, columns in (("retrieval", "neighbors-", retrieval), ("distances", "represent-", DISTANCES))}
