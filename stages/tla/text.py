"""REPORT.md: tables and sentences, every number taken from the tables they are given. Imports no torch."""

from pathlib import Path

import pandas as pd

from tla.names import attack_label, model_label, percent
from tla.params import Params
from tla.published import published
from tla.trust import flagged, trust_text

TASKS = {"misclassified": "wrong vs right, both adversarial", "adversarial": "fooling adversarial vs clean"}
SCORES = {"softmax": "largest softmax probability", "neighbors": "cosine distance to neighbours",
          "mixture": "Gaussian-mixture likelihood"}


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


def poster_auc(params: Params) -> str:
    """One line with the AUCs that the poster prints for this data set; empty for other data sets."""
    values = ", ".join(f"{line.model} {line.value:.4f}" for line in published(params, "ROC").drop_duplicates("model").itertuples())
    return values and f"AUC on the poster, score and eps not stated: {values}"


def _first(params: Params) -> str:
    return list(outcomes(params))[2]


def report_text(params: Params, tables: dict[str, pd.DataFrame], metrics: dict) -> str:
    """The whole page. `metrics` maps 'detect-at' and the like to the metrics of that stage, `tables` names to tables."""
    accuracy, differences = tables["accuracy"], tables["differences"]
    sections = [_head(params, accuracy), _accuracy(params, tables), _differences(params, differences),
                _resolution(params, differences), _sweep(params, accuracy, differences),
                trust_text(params, tables, metrics["blackbox"]), _detection(params, metrics),
                _retrieval(params, metrics), _files(params)]
    return "\n\n".join(sections) + "\n"


def _head(params: Params, accuracy: pd.DataFrame) -> str:
    return f"""# {params.dataset}: what this study measured

{accuracy.images.iloc[0]:,} test images, {accuracy.seeds.iloc[0]} training seeds, L-infinity eps = {params.attack.eps} on \
pixels in [0, 1]. Accuracies, differences, AUC and retrieval are computed from one row per test image and seed.

*last*: correct after the last step of every restart (the paper's convention). *worst*: correct at every step up to
the budget. *union*: correct on the clean image and at every step of every attack; the headline."""


def results_table(params: Params, tables: dict[str, pd.DataFrame], commands: bool) -> str:
    """Accuracy in percent, one line a model, as Markdown; `commands` adds what makes the line.

    tables: autoattack, masking (a flagged model is marked) and accuracy with columns name, outcome, accuracy, low, high, std, images. Where long attacks see only the
    first test images, each accuracy is over those its attack saw, and the union over those all saw.
    """
    lines, accuracy, marked = [], tables["accuracy"], flagged(tables["masking"])
    autoattack = tables["autoattack"].set_index("model")
    for name, part in accuracy.groupby("name", sort=False):
        part = part.set_index("outcome")
        line = {"method": model_label(name, params) + (" ⚑" if name in marked else "")}
        line |= {headed(label, part.images[outcome], accuracy): percent(part.accuracy[outcome])
                 for outcome, label in outcomes(params).items()}
        line[headed("AutoAttack", autoattack.images[name], accuracy)] = percent(autoattack.square[name])
        union = part.loc["union_worst"]
        line["95 % interval"] = f"{percent(union.low)}–{percent(union.high)}"
        line["seeds"] = f"± {percent(union['std'])}"
        lines.append(line | ({"command": f"`dvc repro evaluate@{name}`"} if commands else {}))
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)


def headed(label: str, images: int, accuracy: pd.DataFrame) -> str:
    """A column's head; with the number of images where attacks saw different ones."""
    return label if images == accuracy.images.max() else f"{label} ({images:,})"


def _capped(params: Params, accuracy: pd.DataFrame) -> str:
    """What a reader has to know where attacks saw different images."""
    if accuracy.images.nunique() == 1:
        return ""
    return (" A number in a head counts the first test images that its attack saw, the union those that all saw; such a "
            "column can be compared down, not with columns over other images, which are harder or easier.")


def _accuracy(params: Params, tables: dict[str, pd.DataFrame]) -> str:
    return f"""## Accuracy under white-box attacks, %

The interval (Wilson, over test images) and the standard deviation over seeds belong to the union. Attacks by the
convention *last*, the union by *worst*; all attacks under both conventions are in `tables/accuracy.csv`.{_capped(params, tables["accuracy"])} AutoAttack is
not in the union: it saw the first {tables["autoattack"].images.max():,} test images of seed {", ".join(map(str, params.autoattack.seeds))}. ⚑ marks a model with a sign of gradient masking.

{results_table(params, tables, commands=False)}

![Bars: accuracy under attack with 95 % intervals. {_union_alt(tables["accuracy"])}](figures/accuracy.png){_diamonds(params)}"""


def _union_alt(accuracy: pd.DataFrame) -> str:
    """What a figure of accuracies shows, in words, for readers who do not see it."""
    union = accuracy[accuracy.outcome == "union_worst"]
    return "Under the union: " + ", ".join(f"{line.model} {percent(line.accuracy)} %" for line in union.itertuples())


def _diamonds(params: Params) -> str:
    return "" if published(params, "bars").empty else (
        "\n\nDiamonds: the paper's values, digitised from its poster. Its network, training and forms of C&W and MIM "
        "are others.")


def _differences(params: Params, differences: pd.DataFrame) -> str:
    lines = []
    for d in differences[differences.outcome.isin(["clean", list(bars(params))[0], "union_worst"])].itertuples():
        lines.append({"pair": f"{model_label(d.model, params)} − {model_label(d.baseline, params)}",
                      "under": attack_label(d.outcome.rpartition("_")[0] or d.outcome),
                      "difference, points": f"{100 * d.difference:+.1f}",
                      "95 % interval": f"[{100 * d.low:+.1f}, {100 * d.high:+.1f}]",
                      "seeds won": f"{d.seeds_won} of {d.seeds}", "resolved": _verdict(d)})
    table = pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)
    return f"""## Paired differences

Intervals over test images and training seeds jointly: *yes* where the interval excludes zero. They are not corrected
for the number of comparisons.{_folds(params)}

{table}"""


def _folds(params: Params) -> str:
    if params.data.folds is None:
        return ""
    return (" Each seed has a fold of its own, and folds share most of their training images: taken as independent, as here, "
            "they make intervals narrower than new data would (by up to a third, Nadeau and Bengio 2003).")


def _verdict(difference) -> str:
    if difference.low > 0:
        return "yes, higher"
    return "yes, lower" if difference.high < 0 else "no"


def _resolution(params: Params, differences: pd.DataFrame) -> str:
    union = differences[differences.outcome == "union_worst"].set_index(["model", "baseline"])
    tla, family = f"tla-b{params.mining.batch}", union[[("um" not in pair) for pair in union.index]]
    verdicts = pd.Series({pair: _verdict(union.loc[pair]) for pair in family.index})
    half = (100 * (family.high - family.low) / 2).max()
    gain = union.loc[("at", "um")]
    scope = ("8x8 digits are another data set than the paper's: this neither confirms nor contradicts a claim made there."
             if params.data.source == "digits" else "The network and the training budget differ from the paper's where params.yaml says so.")
    return f"""## What {params.dataset} can and cannot resolve

- **Adversarial training (AT) against no defence (UM)** under the union of attacks: {_interval(gain)}; \
{'not resolved' if _verdict(gain) == 'no' else 'resolved'}.
- **Among the adversarially trained models** a difference has to exceed up to {half:.1f} points to be resolved.
  Resolved under the union: {_names(params, union, verdicts[verdicts != 'no'].index)}.
  Not resolved: {_names(params, union, verdicts[verdicts == 'no'].index)}.
- The paper claims gains of about 1 to 5 points for TLA over AT and ALP on MNIST and CIFAR-10. Here TLA against AT is
  {_interval(union.loc[(tla, 'at')])}, against ALP {_interval(union.loc[(tla, 'alp')])}.
  {scope}{_pool_note(params)}"""


def _interval(difference) -> str:
    return f"{100 * difference.difference:+.1f} points [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def _names(params: Params, union: pd.DataFrame, pairs) -> str:
    return "; ".join(f"{model_label(a, params)} against {model_label(b, params)} "
                     f"({100 * union.loc[(a, b)].difference:+.1f})" for a, b in pairs) or "none"


def _pool_note(params: Params) -> str:
    switched = params.methods["tla-sa"].mining_batch
    if switched == params.mining.batch:
        return ""
    return f"\n- TLA-SA mines from a pool of {switched}, TLA from {params.mining.batch}: their difference mixes two changes."


def _sweep(params: Params, accuracy: pd.DataFrame, differences: pd.DataFrame) -> str:
    union = accuracy[(accuracy.outcome == "union_worst") & accuracy.name.str.startswith("tla-b")]
    ranked = union.assign(batch=union.name.str.removeprefix("tla-b").astype(int)).sort_values("accuracy")
    best, worst = ranked.iloc[-1], ranked.iloc[0]
    against = differences[(differences.outcome == "union_worst") & differences.baseline.str.startswith("tla-b")
                          & (differences.model == f"tla-b{params.mining.batch}")]
    lines = [f"pool {pair.baseline.removeprefix('tla-b')}: {_interval(pair)}, {_verdict(pair)}" for pair in against.itertuples()]
    return f"""## Size of the negative pool

Under the union the highest accuracy is at {best.batch} ({percent(best.accuracy)} %), the lowest at {worst.batch} \
({percent(worst.accuracy)} %). The default of {params.mining.batch} minus each other pool, and whether zero is excluded:
{'; '.join(lines)}.

![Lines: accuracy against the size of the negative pool, with 95 % intervals. {_union_alt(ranked)}](figures/pool-sweep.png)"""


def _detection(params: Params, metrics: dict) -> str:
    models, lines = [k.removeprefix("detect-") for k in metrics if k.startswith("detect-")], []
    for task, task_label in TASKS.items():
        for score, score_label in SCORES.items():
            for factor in params.detect.eps_factors:
                auc = {model_label(m, params): metrics[f"detect-{m}"].get(f"{task}_{score}_auc_eps_{factor:g}") for m in models}
                lines.append({"question": task_label, "score": score_label, "eps": f"{factor:g} x training"} |
                             {k: "undefined" if v is None else f"{v:.3f}" for k, v in auc.items()})
    return f"""## Misclassification detection, AUC

Mean over seeds of the AUC. 0.5 is chance; below 0.5 the score is misled. Undefined where a model gets every image
wrong or every image right.

{pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)}

{poster_auc(params)}

![ROC curves of UM, AT, ALP and TLA at the middle eps: two questions by three scores; their areas stand in the table](figures/roc.png)"""


def _retrieval(params: Params, metrics: dict) -> str:
    k, rows = params.neighbors.k, []
    for name, values in metrics.items():
        if name.startswith("neighbors-"):
            rows.append({"model": model_label(name.removeprefix("neighbors-"), params)} | {
                label: f"{values[key]:.3f}" for key, label in (
                    ("clean_knn_accuracy", f"{k}-NN accuracy, clean"), ("adv_knn_accuracy", f"{k}-NN accuracy, adversarial"),
                    (f"adv_precision_at_{k}", f"precision@{k}, adversarial"))})
    distances = [{"model": model_label(name.removeprefix("represent-"), params)} | {
        label: f"{values[key]:.3f}" for key, label in (
            ("clean_same_class_distance", "clean, own class"), ("clean_other_class_distance", "clean, other classes"),
            ("adv_same_class_distance", "adversarial, own class"), ("adv_other_class_distance", "adversarial, other classes"))}
        for name, values in metrics.items() if name.startswith("represent-")]
    return f"""## Neighbours and distances in the embedding

Retrieval of clean training images by cosine similarity. The figure shows, for the first {params.neighbors.queries} classes, the first test image of the first seed.

{pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)}

![Adversarial queries and the training images that AT and TLA retrieve for them, each marked right or wrong](figures/neighbors.png)

Mean cosine distance of test images to clean test images (first seed):

{pd.DataFrame(distances).to_markdown(index=False, disable_numparse=True)}

![t-SNE maps of AT and TLA: clean images as dots, adversarial ones as crosses, coloured by true class](figures/tsne.png)"""


def _files(params: Params) -> str:
    return f"""## Where the numbers come from

| file | content | made by |
|---|---|---|
| [params](../../{params.config}) | every parameter, with its source | |
| `metrics/<model>.json` | accuracy under every attack, both conventions | `dvc repro evaluate` |
| [accuracy](tables/accuracy.csv), `accuracy/<model>.csv` | the same with intervals and spread | `dvc repro evaluate report` |
| `training/<model>.csv` | loss, triplet shares and distances, validation accuracy per epoch | `dvc repro train train-tla` |
| [differences](tables/differences.csv), [of AUC](tables/auc-differences.csv) | every paired difference | `dvc repro compare` |
| [AutoAttack](tables/autoattack.csv), [transfer](tables/transfer.csv), [textbook attacks](tables/classic.csv), [label leaking](tables/label-leaking.csv), [masking](tables/masking.csv), [images from elsewhere](tables/ood.csv) | attacks beyond the suite, signs of masking | `dvc repro autoattack blackbox classic diagnose ood` |
| `metrics/detect-<model>.json`, `plots/roc-<model>.csv` | AUC and ROC | `dvc repro detect` |
| `metrics/neighbors-<model>.json`, `metrics/represent-<model>.json` | retrieval, class distances | `dvc repro neighbors represent` |
| [tuning](tuning.csv) | hyper-parameter trials on validation images | `make tune` |
| [splits](splits.csv) | part of every image for every seed | `dvc repro prepare` |
| `data/{params.dataset}/rows/*.csv.gz` | one row per test image and seed (cached by DVC) | `dvc repro evaluate detect neighbors` |"""
