"""The tables of REPORT.md as Markdown, and the facts its template puts into words. Imports no torch."""

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pandas as pd

from tla.fill import fill
from tla.names import attack_label, flagged, model_label, percent, points
from tla.params import Params
from tla.published import published, short_run
from tla.signs import SIGNS

TASKS = {"misclassified": "wrong vs right, both adversarial", "adversarial": "fooling adversarial vs clean"}
SCORES = {"softmax": "largest softmax probability", "neighbors": "cosine distance to neighbours",
          "mixture": "Gaussian-mixture likelihood"}
SOURCES = {"noise": "uniform noise", "photos": "crops of photographs", "digits": "8x8 digits, enlarged",
           "mnist": "MNIST", "cifar10": "CIFAR-10 in grey"}
AUTOATTACK = {"apgd-ce": "APGD, cross-entropy", "apgd-t": "APGD, targeted", "fab-t": "FAB, targeted",
              "square": "Square"}
DISTANCES = {"clean_same_class_distance": "clean, own class", "clean_other_class_distance": "clean, other classes",
             "adv_same_class_distance": "adversarial, own class",
             "adv_other_class_distance": "adversarial, other classes"}
LEAKING = ("kurakin", "at", "um")     # models of which REPORT.md shows label leaking; the table has all
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
    return {k: v for k, v in outcomes(params).items() if k not in list(outcomes(params))[:3]}


def sweep(params: Params) -> dict[str, str]:
    """Attacks of the pool-size figure: the poster's, with its short PGD run, and the union."""
    short = short_run(params)
    return {f"pgd_{short}_last": f"PGD-{short}", "cw_last": "C&W", "mim_last": "MIM", "union_worst": "union"}


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


def labels(params: Params, masking: pd.DataFrame) -> dict[str, str]:
    """Label of every model, ⚑ after those with a sign of gradient masking."""
    marked = flagged(masking)
    return {name: model_label(name, params) + " ⚑" * (name in marked) for name in masking.model}


def markdown(lines: Iterable[dict], label: dict[str, str] | None = None) -> str:
    """A Markdown table; names in the column `model` are replaced by their `label`."""
    table = pd.DataFrame(lines)
    if label:
        table["model"] = table.model.map(label)
    return table.to_markdown(index=False, disable_numparse=True)


def results_table(params: Params, tables: dict[str, pd.DataFrame], commands: bool) -> str:
    """Accuracy in percent, one line a model; `commands` adds what makes the line.

    tables: autoattack, masking (a flagged model is marked) and accuracy with columns name, outcome, accuracy,
    low, high, std, images. Where long attacks see only the first test images, each accuracy is over those its
    attack saw, and the union over those all saw.
    """
    lines, accuracy, label = [], tables["accuracy"], labels(params, tables["masking"])
    autoattack = tables["autoattack"].set_index("model")

    def headed(head: str, images: int) -> str:
        return head if images == accuracy.images.max() else f"{head} ({images:,})"

    for name, part in accuracy.groupby("name", sort=False):
        part = part.set_index("outcome")
        line = {"method": label[name]}
        line |= {headed(head, part.images[outcome]): percent(part.accuracy[outcome])
                 for outcome, head in outcomes(params).items()}
        union = part.loc["union_worst"]
        line["union, 95 % interval"] = f"{percent(union.low)}–{percent(union.high)}"
        line["union, over seeds"] = f"± {percent(union['std'])}"
        line[headed("AutoAttack", autoattack.images[name])] = percent(autoattack.square[name])
        lines.append(line | ({"command": f"`dvc repro evaluate@{name}`"} if commands else {}))
    return markdown(lines)


def report_text(template: str, params: Params, tables: dict[str, pd.DataFrame], metrics: dict) -> str:
    """The whole page. metrics: 'detect-at' and the like -> the metrics of that stage; tables: those of read_tables."""
    label = labels(params, tables["masking"])
    filters = {"percent": percent, "points": points, "comma": "{:,}".format, "verdict": _resolved,
               "label": label.get, "pool": lambda name: name.removeprefix("tla-b")}
    facts = _white_box(params, tables, label) | _beyond(params, tables, metrics["blackbox"], label) | _embedding(
        params, metrics, tables["accuracy"].images.max(), label)
    return fill(template, filters, params=params, signs=SIGNS, **facts)


def _records(table: pd.DataFrame) -> list:
    return list(table.itertuples())


def _white_box(params: Params, tables: dict[str, pd.DataFrame], label: dict[str, str]) -> dict:
    accuracy, differences = tables["accuracy"], tables["differences"]
    unions = accuracy[accuracy.outcome == "union_worst"]
    found = differences[differences.outcome == "union_worst"]
    found = found.assign(verdict=found.apply(_resolved, axis=1))
    pair = {(line.model, line.baseline): line for line in found.itertuples()}
    family, tla = found[(found.model != "um") & (found.baseline != "um")], f"tla-b{params.mining.batch}"
    return {
        "accuracy": _records(accuracy), "capped": accuracy.images.nunique() > 1, "unions": _records(unions),
        "pools": _records(unions[unions.name.str.startswith("tla-b")].sort_values("accuracy", kind="stable")),
        "results": results_table(params, tables, commands=False), "diamonds": not published(params, "bars").empty,
        "differences": markdown(_differences(params, differences, label)),
        "gain": pair["at", "um"], "over_at": pair[tla, "at"], "over_alp": pair[tla, "alp"],
        "half_width": (100 * (family.high - family.low) / 2).max(),
        "yes": _records(family[family.verdict != "no"]), "no": _records(family[family.verdict == "no"]),
        "against": _records(found[(found.model == tla) & found.baseline.str.startswith("tla-b")])}


def _differences(params: Params, differences: pd.DataFrame, label: dict[str, str]) -> Iterable[dict]:
    for d in differences[differences.outcome.isin(["clean", list(bars(params))[0], "union_worst"])].itertuples():
        yield {"pair": f"{label[d.model]} − {label[d.baseline]}",
               "under": attack_label(d.outcome.rpartition("_")[0] or d.outcome),
               "difference, points": points(d.difference),
               "95 % interval": f"[{points(d.low)}, {points(d.high)}]",
               "seeds won": f"{d.seeds_won} of {d.seeds}", "resolved": _resolved(d)}


def _resolved(difference) -> str:
    return "yes, higher" if difference.low > 0 else "yes, lower" if difference.high < 0 else "no"


def _beyond(params: Params, tables: dict[str, pd.DataFrame], blackbox: dict[str, float], label: dict[str, str]) -> dict:
    transfer, masking, ood = tables["transfer"], tables["masking"], tables["ood"]
    matrix = transfer.set_index("source").rename(index=label, columns=label).map(percent).rename_axis("images from")
    wide = ood.pivot(index=["source", "score"], columns="model", values="auc").loc[params.ood.sources]
    wide = wide[list(dict.fromkeys(ood.model))].rename(columns=label).reset_index()
    return {
        "autoattack_images": tables["autoattack"].images.max(), "flagged": flagged(masking),
        "autoattack": markdown(_autoattack(tables["autoattack"]), label),
        "blackbox": markdown(_blackbox(params, list(transfer.source), blackbox), label),
        "transfer": matrix.to_markdown(disable_numparse=True),
        "masking": markdown(({"model": line["model"]} | {
            name.replace("_", " "): points(line[name]) + " ⚑" * line[f"flag_{name}"] for name in SIGNS} |
            {"pixels without gradient": f"{percent(line['zero_pixels'])} %"}
            for line in masking.to_dict("records")), label),
        "classic": markdown(_classic(tables["classic"]), label),
        "leaking": markdown(_leaking(tables["label-leaking"]), label),
        "ood": wide.assign(source=wide.source.map(SOURCES)).to_markdown(index=False, floatfmt=".3f")}


def _autoattack(table: pd.DataFrame) -> Iterable[dict]:
    for line in table.to_dict("records"):
        yield {"model": line["model"], "clean": percent(line["clean"])} | {
            head: percent(line[name]) for name, head in AUTOATTACK.items()} | {
            "95 % interval": f"{percent(line['low'])}–{percent(line['high'])}",
            "complaints": sum(v for k, v in line.items() if k.startswith("check_"))}


def _blackbox(params: Params, models: list[str], metrics: dict[str, float]) -> Iterable[dict]:
    images, few = (f" ({n:,})" for n in (params.blackbox.images, params.blackbox.hop_skip.images))
    for name in models:
        yield {"model": name, f"strongest other source{images}": percent(metrics[f"{name}_transfer"]),
               f"its method, another seed{images}": percent(metrics[f"{name}_grey_box"]),
               f"Square{images}": percent(metrics[f"{name}_square"]),
               f"HopSkipJump{few}": percent(metrics[f"{name}_hop_skip"]),
               "its queries an image": f"{metrics[f'{name}_hop_skip_queries']:,.0f}"}


def _classic(table: pd.DataFrame) -> Iterable[dict]:
    for line in table.itertuples():
        yield {"model": line.model, "accuracy without a ball": percent(line.domain_accuracy),
               "chosen class, one step": percent(line.chosen_one_step_success),
               "iterative": percent(line.chosen_iterative_success),
               "least likely class, one step": percent(line.least_likely_one_step_success),
               "iterative ": percent(line.least_likely_iterative_success),
               "median L∞": f"{line.smallest_linf_median:.3f}", "L∞ found": percent(line.smallest_linf_reached),
               "median L2": f"{line.smallest_l2_median:.2f}", "L2 found": percent(line.smallest_l2_reached)}


def _leaking(table: pd.DataFrame) -> Iterable[dict]:
    for (model, part), rows in table[table.model.isin(LEAKING)].groupby(["model", "part"], sort=False):
        yield {"model": model, "images": part, "clean": percent(rows.clean.iloc[0])} | {
            f"eps {eps:g}": percent(value) + (" *" if value > rows.clean.iloc[0] else "")
            for eps, value in zip(rows.eps, rows.fgsm, strict=True)}


def _embedding(params: Params, metrics: dict, images: int, label: dict[str, str]) -> dict:
    def of(stage: str) -> list[tuple[str, dict]]:
        return [(label[name.removeprefix(stage)], values) for name, values in metrics.items()
                if name.startswith(stage)]

    k = params.neighbors.k
    retrieval = {"clean_knn_accuracy": f"{k}-NN accuracy, clean", "adv_knn_accuracy": f"{k}-NN accuracy, adversarial",
                 f"adv_precision_at_{k}": f"precision@{k}, adversarial"}
    auc = []
    cases = product(TASKS.items(), SCORES.items(), params.detect.eps_factors)
    for (task, task_label), (score, score_label), factor in cases:
        found = {model: mean_auc(params, values, task, score, factor, images) for model, values in of("detect-")}
        auc.append({"question": task_label, "score": score_label, "eps": f"{factor:g} x training"} |
                   {model: "undefined" if v is None else f"{v:.3f}" for model, v in found.items()})
    return {"detection": markdown(auc), "poster_auc": poster_auc(params)} | {
        name: markdown({"model": model} | {head: f"{values[key]:.3f}" for key, head in columns.items()}
                       for model, values in of(stage))
        for name, stage, columns in (("retrieval", "neighbors-", retrieval), ("distances", "represent-", DISTANCES))}
