"""Sections of REPORT.md on the attacks beyond the white-box suite and on gradient masking. Imports no torch."""

import pandas as pd

from tla.names import model_label, percent
from tla.params import Params
from tla.signs import SIGNS

SOURCES = {"noise": "uniform noise", "photos": "crops of photographs", "digits": "8x8 digits, enlarged",
           "mnist": "MNIST", "cifar10": "CIFAR-10 in grey"}
ATTACKS = {"apgd-ce": "APGD, cross-entropy", "apgd-t": "APGD, targeted", "fab-t": "FAB, targeted", "square": "Square"}


def flagged(masking: pd.DataFrame) -> list[str]:
    """Names of the models with a sign of gradient masking."""
    return list(masking.model[masking.filter(like="flag_").any(axis=1)])


def trust_text(params: Params, tables: dict[str, pd.DataFrame], blackbox: dict[str, float]) -> str:
    """All sections. tables: autoattack, transfer, classic, label-leaking, masking and ood."""
    return "\n\n".join([
        _autoattack(params, tables["autoattack"]), _blackbox(params, tables["transfer"], blackbox),
        _masking(params, tables["masking"]), _classic(params, tables["classic"]),
        _leaking(params, tables["label-leaking"]), _ood(params, tables["ood"])])


def _markdown(params: Params, lines: list[dict]) -> str:
    """A table; a line's `model` is replaced by its label."""
    table = pd.DataFrame(lines)
    table["model"] = [model_label(name, params) for name in table.model]
    return table.to_markdown(index=False, disable_numparse=True)


def _autoattack(params: Params, table: pd.DataFrame) -> str:
    lines = [{"model": line["model"], "clean": percent(line["clean"])} | {
        label: percent(line[name]) for name, label in ATTACKS.items()} | {
        "95 % interval": f"{percent(line['low'])}–{percent(line['high'])}",
        "complaints": sum(v for k, v in line.items() if k.startswith("check_"))} for line in table.to_dict("records")]
    return f"""## AutoAttack

Accuracy in percent after each attack of the standard version in turn (Croce and Hein 2020, official package), on the
first {table.images.max():,} test images of {len(params.autoattack.seeds)} of {len(params.seeds)} seeds. *Complaints*
counts warnings of the package that a model is random, changes while it is asked, or returns probabilities.

{_markdown(params, lines)}"""


def _blackbox(params: Params, transfer: pd.DataFrame, metrics: dict[str, float]) -> str:
    settings = params.blackbox
    columns = {"transfer": "strongest other source", "grey_box": "its method, another seed", "square": "Square",
               "hop_skip": "HopSkipJump"}
    lines = [{"model": name} | {label: percent(metrics[f"{name}_{key}"]) for key, label in columns.items()}
             for name in transfer.source]
    label = {name: model_label(name, params) for name in transfer.source}
    matrix = transfer.set_index("source").rename(index=label, columns=label).map(percent).rename_axis("images from")
    return f"""## Attacks without gradients

Accuracy in percent on the first {settings.images:,} test images of seed {params.seeds[1]}. *Square* asks for scores
({settings.queries:,} queries an image), *HopSkipJump* for decisions (first {settings.hop_skip.images} images,
{settings.hop_skip.iterations} iterations): correct where the change it needs is larger than eps.

{_markdown(params, lines)}

Every model (column) on the images made on another (row) with seed {params.seeds[0]}; on the diagonal the same method
with another seed.

{matrix.to_markdown(disable_numparse=True)}"""


def _masking(params: Params, table: pd.DataFrame) -> str:
    lines = [{"model": line["model"]} | {
        name.replace("_", " "): f"{100 * line[name]:+.1f}{' ⚑' if line[f'flag_{name}'] else ''}" for name in SIGNS}
        for line in table.to_dict("records")]
    named = [model_label(name, params) for name in flagged(table)]
    explained = "\n".join(f"- *{name.replace('_', ' ')}*: {text}" for name, text in SIGNS.items())
    return f"""## Signs of gradient masking

Points by which each sign goes, on seed {params.seeds[1]} and the first {params.masking.images:,} test images, or those that
both attacks saw; ⚑ above {100 * params.masking.tolerance:g} points. Flagged models: {', '.join(named) or 'none'}.

{explained}

{_markdown(params, lines)}

![Margin around two test images for each model, along the gradient and along random signs; the thick line is the decision boundary](figures/loss-surface.png)"""


def _classic(params: Params, table: pd.DataFrame) -> str:
    lines = [{
        "model": line.model, "accuracy without a ball": percent(line.domain_accuracy),
        "chosen class, one step": percent(line.chosen_one_step_success),
        "iterative": percent(line.chosen_iterative_success),
        "least likely class, one step": percent(line.least_likely_one_step_success),
        "iterative ": percent(line.least_likely_iterative_success),
        "median L∞": f"{line.smallest_linf_median:.3f}", "median L2": f"{line.smallest_l2_median:.2f}"}
        for line in table.itertuples()]
    return f"""## Textbook attacks

On the first {params.classic.images:,} test images of seed {params.seeds[0]}. *Without a ball*: {params.classic.steps}
sign steps of {params.classic.step_size}, clipped to [0, 1] only. Targeted attacks (same steps; one step of size eps):
percent of correctly classified images that reach the class; the chosen class is the next one. The last two columns
are the smallest changes that reach it, by bisection over eps with PGD and by DDN.

{_markdown(params, lines)}"""


def _leaking(params: Params, table: pd.DataFrame) -> str:
    lines = []
    for (model, part), rows in table[table.model.isin(["kurakin", "at", "um"])].groupby(["model", "part"], sort=False):
        lines.append({"model": model, "images": part, "clean": percent(rows.clean.iloc[0])} | {
            f"eps {eps:g}": percent(value) + (" *" if value > rows.clean.iloc[0] else "")
            for eps, value in zip(rows.eps, rows.fgsm, strict=True)})
    return f"""## Label leaking

Accuracy under FGSM, percent; * where it exceeds the clean accuracy, as Kurakin et al. (2017) saw after training on
one-step images. All models are in `tables/label-leaking.csv`.

{_markdown(params, lines)}"""


def _ood(params: Params, table: pd.DataFrame) -> str:
    wide = table.pivot(index=["source", "score"], columns="model", values="auc").loc[params.ood.sources]
    wide = wide[list(dict.fromkeys(table.model))].rename(columns=lambda name: model_label(name, params)).reset_index()
    wide["source"] = wide.source.map(SOURCES)
    return f"""## Images from elsewhere

AUC with which the scores of the detect stage tell test images from {params.ood.images:,} images of another kind; mean
over seeds.

{wide.to_markdown(index=False, floatfmt='.3f')}"""
