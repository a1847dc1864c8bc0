"""How models, outcomes and numbers are called in tables and figures, and what is marked."""

import math

import pandas as pd

from tla.outcomes import Outcome
from tla.params import Params
from tla.report.curves import is_of_norm, norm_label
from tla.train.methods import label

ATTACKS = {
    "clean": "clean", "white-box": "white-box union", "robust": "robust (everything tried)",
    "knn": "k-NN of the adversarial query",
    "mismatch": "k-NN of the query under targeted mismatch",
    "fgsm": "FGSM", "ifgsm": "iterative FGSM",
    "fgsm-least-likely": "FGSM, least likely", "ifgsm-least-likely": "iterative FGSM, least likely",
    "pgd": "PGD", "pgd-restarts": "PGD, restarts", "cw": "C&W", "cw-50": "C&W, confidence 50",
    "mim": "MIM", "mim-average": "MIM, averaged", "autoattack": "AutoAttack", "square": "Square"}
CONVENTIONS = {"last": "after the last step", "worst": "at every step"}
DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10", "tiny-imagenet": "Tiny ImageNet", "any": "any"}
AUTHORS = ("paper-convnet", "wide-resnet", "resnet50-tiny")     # the paper's networks
NAMED = {"cifar10": ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                     "truck"]}      # classes that are no numbers
QUERIES = ("autoattack", "square", "mismatch")  # they return one image and have one convention


def attack_label(outcome: Outcome) -> str:
    """'pgd_400_last' -> 'PGD-400'; an attack without an entry is shown by its own name."""
    if is_of_norm(outcome):
        return norm_label(outcome)
    called = ATTACKS.get(outcome.attack, outcome.attack)
    return called if outcome.budget is None else f"{called}-{outcome.budget}"


def attack_of(outcome: str) -> str:
    """'pgd_400_last' -> 'PGD-400'."""
    return attack_label(Outcome.parse(outcome))


def outcome_label(text: str) -> str:
    """'pgd_400_last' -> 'PGD-400, after the last step'; what is no outcome is shown as it is."""
    try:
        outcome = Outcome.parse(text)
    except ValueError:
        return text
    if outcome.convention is None or outcome.attack in QUERIES or is_of_norm(outcome):
        return attack_label(outcome)
    return f"{attack_label(outcome)}, {CONVENTIONS[outcome.convention]}"


def model_labels(params: Params) -> dict[str, str]:
    """Label of every model of a study."""
    return {name: label(name, params) for name in params.models}


def network_label(params: Params) -> str:
    """'convnet 16-32-100': the architecture of every model of a study, and its widths."""
    return f"{params.model.architecture} {'-'.join(map(str, params.model.widths))}"


def class_names(source: str, classes: int) -> list[str]:
    """What classes of a source of images are called: digits by themselves."""
    return NAMED.get(source, [str(k) for k in range(classes)])


def eps_label(eps: float) -> str:
    """0.3 -> '0.3'; what is no short number but so many grey levels -> '8/255'."""
    if float(f"{eps:.2g}") != eps and math.isclose(255 * eps, round(255 * eps)):
        return f"{round(255 * eps)}/255"
    return f"{eps:.4g}"


def flagged(masking: pd.DataFrame) -> list[str]:
    """Names of the models with a sign of gradient masking; masking: that table of a study."""
    return list(masking.model[masking.filter(like="flag_").any(axis=1)])


def percent(value: float) -> str:
    """0.731 -> '73.1'; a dash where nothing was measured."""
    return "–" if pd.isna(value) else f"{100 * value:.1f}"


def points(difference: float) -> str:
    """0.012 -> '+1.2'."""
    return f"{100 * difference:+.1f}"


def p_value(p: float) -> str:
    """A p value as text, empty where there is none."""
    if pd.isna(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.2g}"
