"""The facts that the template of REPORT.md puts into words, and the results table."""

from operator import itemgetter
from pathlib import Path

import pandas as pd

from tla.files import read_csv
from tla.outcomes import Outcome
from tla.params import Params
from tla.report.curves import norm_facts
from tla.report.detection import SCORES, TASKS, works_against
from tla.report.fill import fill
from tla.report.gain import added, gain_facts
from tla.report.intact import read_table
from tla.report.labels import (
    attack_label,
    attack_of,
    eps_label,
    flagged,
    model_labels,
    outcome_label,
    percent,
    points,
)
from tla.report.pairs import headlined, pools
from tla.report.published import forms, long_run, poster_auc, published, short_run
from tla.report.scale import scale_facts
from tla.report.signs import SIGNS
from tla.report.tables import READING, lookup
from tla.report.tuning import read_trials, winners

WORKS = {"both": "against both attackers", "neither": "against neither",
         "unaware": "**only against the one who does not know of it**", "undefined": "undefined"}
SOURCES = {"noise": "uniform noise", "photos": "crops of photographs",
           "digits": "8x8 digits, enlarged", "mnist": "MNIST", "cifar10": "CIFAR-10 in grey"}
LEAKING = ("kurakin", "at", "um")   # whose label leaking REPORT.md shows; the table has all
TABLES = ("accuracy", "differences", "distances", "autoattack", "draws", "transfer", "queries",
          "textbook", "label-leaking", "masking", "cost", "auc", "aware", "ood", "retrieval",
          "mismatch", "seeds")


def read_tables(params: Params) -> dict[str, pd.DataFrame]:
    """The tables that the texts are written from: of trials, of variants where there are any."""
    names, variants = list(TABLES), params.variants
    names += ["scale", "scale-trend"] if variants.scale else []
    names += ["gain"] if variants.gain else []
    names += ["variants"] if pilot(params) else []
    found = {name: read_table(params, name) for name in names}
    return found | {"trials": read_trials(params), "epochs": kept_epochs(params)}


def kept_epochs(params: Params) -> pd.DataFrame:
    """model, seed, epoch of the checkpoint that was kept, and of how many, from training's logs.

    That is the most robust on the images that choose, clean accuracy and then the later epoch
    breaking ties.
    """
    lines = []
    for model in params.models:
        log = read_csv(Path("reports", params.dataset, "training", f"{model}.csv"))
        by = [*log.filter(regex="_(?:robust|clean)_accuracy$"), "epoch"]
        for seed, part in log.groupby("seed"):
            kept = part.sort_values(by, na_position="first").iloc[-1]     # not all are validated
            lines.append({"model": model, "seed": seed, "epoch": int(kept.epoch),
                          "epochs": int(part.epoch.max())})
    return pd.DataFrame(lines)


def seed_facts(params: Params, tables: dict[str, pd.DataFrame]) -> list[dict]:
    """A line a model: the kept epoch and the accuracies of each training seed, as text."""
    table, lines = tables["seeds"].merge(tables["epochs"], on=["model", "seed"]), []
    for model in params.models:
        own = table[table.model == model]
        lines.append({"model": model, "epochs": ", ".join(map(str, own.epoch)),
                      "clean": ", ".join(map(percent, own.clean)),
                      "attacked": ", ".join(map(percent, own[READING]))})
    return lines


def shown_outcomes(params: Params) -> dict[str, str]:
    """Outcomes of the results table and the bars, and their heads; the headline is last."""
    names = ["clean", "fgsm_last", short_run(params), long_run(params), READING, *forms(params),
             "white-box", "autoattack_worst"]
    heads = {name: attack_label(Outcome.parse(name)) for name in names}
    return heads | {"robust": "robust"}


def swept_outcomes(params: Params, accuracy: pd.DataFrame) -> dict[str, str]:
    """`sample_heads` of the pool sweep's outcomes: the poster's attacks, and what all leave."""
    names = (short_run(params), *forms(params), "white-box", "robust")
    return {name: head for name, head in sample_heads(params, accuracy).items() if name in names}


def sample_heads(params: Params, accuracy: pd.DataFrame) -> dict[str, str]:
    """`shown_outcomes`, the head with the number of images and of seeds where not all were seen."""
    seen, heads = accuracy.groupby("outcome")[["images", "seeds"]].max(), shown_outcomes(params)
    for outcome, head in heads.items():
        at = seen.loc[outcome]
        said = [f"{at.images:,}"] if at.images < seen.images.max() else []
        if at.seeds < len(params.seeds):
            said.append(f"{at.seeds} seed{'s' if at.seeds > 1 else ''}")
        if said:
            heads[outcome] = f"{head} ({'; '.join(said)})"
    return heads


def results_table(params: Params, tables: dict[str, pd.DataFrame]) -> str:
    """Accuracy in percent, one line a model, as Markdown."""
    label, heads = model_labels(params), sample_heads(params, tables["accuracy"])
    accuracy, lines = lookup(tables["accuracy"], "model", "outcome"), []
    for model in params.models:
        line = {"method": label[model]}
        for outcome, head in heads.items():
            line[head] = percent(accuracy[model, outcome]["accuracy"])
        robust = accuracy[model, "robust"]
        line["robust, 95 % interval"] = f"{percent(robust['low'])}–{percent(robust['high'])}"
        line["robust, over seeds"] = spread(robust)
        lines.append(line)
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)


def spread(line: dict) -> str:
    """'± 1.4', the standard deviation over seeds; a dash where one seed was attacked."""
    return "–" if pd.isna(line["std"]) else f"± {percent(line['std'])}"


def resolved(line: dict) -> str:
    """Whether the interval of a difference excludes zero, and on which side it lies."""
    if line["low"] > 0:
        return "yes, higher"
    return "yes, lower" if line["high"] < 0 else "no"


def area(line: dict) -> str:
    """An AUC with three digits; undefined where it is empty."""
    return "undefined" if pd.isna(line["auc"]) else f"{line['auc']:.3f}"


def of_trained(lines: list[dict], outcome: str) -> dict:
    """What one outcome resolves among adversarially trained models, and its widest interval."""
    found, half_width, seeds = {"yes": [], "no": []}, 0.0, 0
    for line in lines:
        if line["outcome"] == outcome and "um" not in (line["model"], line["baseline"]):
            found["no" if resolved(line) == "no" else "yes"].append(line)
            half_width = max(half_width, 100 * (line["high"] - line["low"]) / 2)
            seeds = max(seeds, line["seeds"])
    return found | {"half_width": half_width, "seeds": seeds,
                    "head": attack_label(Outcome.parse(outcome))}


def comparison_facts(params: Params, tables: dict[str, pd.DataFrame]) -> dict:
    """What the template says of robust accuracy and of differences."""
    accuracy, differences = tables["accuracy"], tables["differences"]
    reached = lookup(accuracy, "model", "outcome")
    lines = [line for line in differences.to_dict("records")
             if headlined(params, (line["model"], line["baseline"]))]
    swept = [reached[name, "white-box"] for name in pools(params)]
    return {"robust": [reached[name, "robust"] for name in params.models], "pools": pools(params),
            "swept": sorted(swept, key=itemgetter("accuracy")),
            "difference": lookup(differences, "model", "baseline", "outcome"),
            "shown": ["clean", long_run(params), "white-box", "robust"], "differences": lines,
            "trained": [of_trained(lines, outcome) for outcome in ("robust", "white-box")]}


def detection_facts(params: Params, tables: dict[str, pd.DataFrame]) -> dict:
    """What the template says of detection and of images from elsewhere."""
    auc = tables["auc"]
    return {"tasks": TASKS, "scores": SCORES, "factors": sorted(set(auc.eps_factor)),
            "auc": lookup(auc, "model", "task", "score", "eps_factor"), "sources": SOURCES,
            "ood": lookup(tables["ood"], "source", "score", "model"),
            "poster_auc": poster_auc(params)}


def aware_facts(params: Params, tables: dict[str, pd.DataFrame]) -> dict:
    """What the template says of detectors whose attacker knows of them, and of moved queries.

    detectors: for each score and eps, the models by whom the detector works against; lowest_area:
    by attacker, the smallest AUC of fooling images against clean ones.
    """
    lines = lookup(tables["aware"], "model", "task", "score", "eps_factor", "attacker")
    factors, detectors = sorted(set(tables["aware"].eps_factor)), []
    for score in SCORES:
        for factor in factors:
            found = {name: [] for name in WORKS}
            for model in params.represent.models:
                key = model, "misclassified", score, factor
                reach = works_against(lines[*key, "unaware"], lines[*key, "aware"])
                found[reach].append(model)
            detectors.append({"score": score, "eps_factor": factor, "models": found})
    of_clean = tables["aware"].query("task == 'adversarial'").groupby("attacker").auc.min()
    return {"lowest_area": {attacker: area({"auc": value}) for attacker, value in of_clean.items()},
            "aware": lines, "aware_factors": factors, "works": WORKS, "detectors": detectors,
            "moved": {line["model"]: line for line in tables["mismatch"].to_dict("records")}}


def trial_facts(params: Params, trials: pd.DataFrame) -> dict:
    """What the template says of hyper-parameter trials: the best of each method, and how many.

    alike: settings of every trial of every method, which the best are shown without.
    """
    best, chosen = {line["method"]: line for line in winners(trials).to_dict("records")}, []
    settings = [set(text.split()) for text in trials.settings]
    alike = set.intersection(*settings) if len(settings) > 1 else set()
    for name in params.models:
        if name in best:
            own = [each for each in best[name]["settings"].split() if each not in alike]
            chosen.append(best[name] | {"settings": " ".join(own)})
    return {"chosen": chosen, "alike": sorted(alike),
            "trials": trials.groupby("method").size().to_dict()}


def pilot(params: Params) -> bool:
    """Whether the study's variants are recipes that were tried on validation images."""
    return bool(params.variants.trained) and params.variants.part == "validation"


def pilot_lines(params: Params, accuracy: pd.DataFrame) -> list[dict]:
    """A line per variant and model of a pilot: what is changed, compute, accuracy by outcome."""
    lines = []
    for (name, model), part in accuracy.groupby(["variant", "model"], sort=False):
        changes = params.variants.trained[name].changes.items()
        lines.append({"variant": name, "model": model, "compute": part.compute.iloc[0],
                      "changed": ", ".join(f"{key}: {value}" for key, value in changes),
                      "images": part.images.max(), "seeds": part.seeds.max(),
                      "accuracy": dict(zip(part.outcome, part.accuracy, strict=True))})
    return lines


def variant_facts(params: Params, tables: dict[str, pd.DataFrame]) -> dict:
    """What the template says of scale, gain and pilot; None of what the study has no variants."""
    found = dict.fromkeys(("scale", "gain", "pilot"))
    if "scale" in tables:
        found["scale"] = scale_facts(params, tables["scale"], tables["scale-trend"])
    if "gain" in tables:
        found["gain"] = gain_facts(tables["gain"])
    if "variants" in tables:
        found["pilot"] = pilot_lines(params, tables["variants"])
    return found


def report_text(template: str, params: Params, tables: dict[str, pd.DataFrame],
                distances: dict[str, dict], verdict: str) -> str:
    """The whole page.

    tables: those of read_tables; distances: by model, its class distances; verdict: the box.
    """
    label, leaking = model_labels(params), tables["label-leaking"]
    filters = {"percent": percent, "points": points, "comma": "{:,}".format, "area": area,
               "resolved": resolved, "label": label.get, "attack": attack_of, "added": added,
               "outcome": outcome_label, "eps": eps_label}
    return fill(
        template, filters, params=params, distances=distances, signs=SIGNS,
        results=results_table(params, tables), verdict=verdict,
        tables={name: table.to_dict("records") for name, table in tables.items()},
        flagged=flagged(tables["masking"]), seeds=seed_facts(params, tables),
        diamonds=not published(params, "bars").empty,
        leaking=leaking[leaking.model.isin(LEAKING)].to_dict("records"),
        **comparison_facts(params, tables), **norm_facts(tables),
        **detection_facts(params, tables), **aware_facts(params, tables),
        **variant_facts(params, tables), **trial_facts(params, tables["trials"]))
