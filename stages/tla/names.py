"""How models and attacks are called in tables and figures, and which models are marked."""

import pandas as pd

from tla.params import Params, parse_model

MODELS = {"um": "UM", "at": "AT", "alp": "ALP", "kurakin": "Kurakin", "trades": "TRADES",
          "at-norm": "AT + norm", "tla-sa": "TLA-SA"}
ATTACKS = {
    "clean": "clean", "fgsm": "FGSM", "ifgsm": "iterative FGSM", "fgsm_least_likely": "FGSM, least likely",
    "ifgsm_least_likely": "iterative FGSM, least likely", "pgd_restarts": "PGD, restarts", "cw": "C&W",
    "cw_50": "C&W, confidence 50", "mim": "MIM", "mim_average": "MIM, averaged", "union": "union of all"}


def model_label(name: str, params: Params) -> str:
    """'tla-b1' -> 'TLA-RN' always, the current pool -> 'TLA', another pool -> 'TLA, pool 30'."""
    model = parse_model(name, params)
    if model.method != "tla":
        return MODELS[name]
    if model.batch == 1:
        return "TLA-RN"
    return "TLA" if model.batch == params.mining.batch else f"TLA, pool {model.batch}"


def attack_label(column: str) -> str:
    """'pgd_400' -> 'PGD-400'; an attack without an entry is shown by its own name."""
    if column.startswith("pgd_") and column[4:].isdigit():
        return f"PGD-{column[4:]}"
    return ATTACKS.get(column, column.replace("_", "-"))


def percent(value: float) -> str:
    """0.731 -> '73.1'."""
    return f"{100 * value:.1f}"


def points(difference: float) -> str:
    """0.012 -> '+1.2'."""
    return f"{100 * difference:+.1f}"


def flagged(masking: pd.DataFrame) -> list[str]:
    """Names of the models with a sign of gradient masking; masking: that table of a study."""
    return list(masking.model[masking.filter(like="flag_").any(axis=1)])
