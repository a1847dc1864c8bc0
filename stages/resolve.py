"""What each model is trained with, and each measurement made with; how the methods call themselves.

One file each: a change of a parameter or of a method so concerns the models and measurements that
hang on it, and dvc.lock, which DVC writes anew after every stage, stays short.
"""

import tla.guard  # noqa: F401

import dataclasses
from pathlib import Path

import pandas as pd

from tla.command import study_arguments
from tla.files import write_json, write_table
from tla.params import Params
from tla.train.methods import (
    METHODS,
    label,
    parse_model,
    training_code,
    training_parameters,
    variant_of,
)

# What decides a measurement besides the model and the code.
MEASUREMENTS = {
    "evaluate": ["dataset", "seeds", "attack", "evaluate", "textbook", "hop_skip", "masking",
                 "norms"],
    "represent": ["dataset", "seeds", "attack", "evaluate.batch", "evaluate.draws",
                  "evaluate.sample_seed", "masking.surfaces", "masking.points", "detect",
                  "neighbors", "represent", "ood"],
}
# And of a variant's; its attacks and the places of its seeds come to these.
VARIED = ["attack.eps", "evaluate.batch", "evaluate.precision", "evaluate.draws",
          "evaluate.sample_seed", "variants.part", "variants.attacks"]


def settings(plain: dict, keys: list[str]) -> dict:
    """The values of dotted keys, by these keys."""
    found = {}
    for key in keys:
        value = plain
        for name in key.split("."):
            value = value[name]
        found[key] = value
    return found


def training_of(params: Params, name: str) -> dict:
    """All that a model of a study, or of a variant, is trained with."""
    used = training_parameters(params.trained_with(name), name)
    return used | {"code": training_code(params, name)}


def variant_settings(params: Params, name: str) -> dict:
    """All that a variant's models are trained with and attacked with."""
    variant, changed = params.variants.trained[name], variant_of(params, name)
    plain = dataclasses.asdict(params)
    attacks = [f"evaluate.attacks.{attack}" for attack in params.variants.attacks]
    return settings(plain, VARIED + attacks) | {
        "places": {seed: params.seeds.index(seed) for seed in variant.seeds},   # decide the fold
        "models": {model: training_of(changed, model) for model in variant.models}}


def main(argv: list[str] | None = None) -> None:
    params = study_arguments(__doc__, argv)
    reports, lines = Path("reports", params.dataset), []
    for name in params.models:
        known = training_of(params, name) | {"seeds": params.seeds_of(name)}
        write_json(reports / "parameters" / f"{name}.json", known)
        baselines = METHODS[parse_model(name, params).method].BASELINES
        lines.append({"model": name, "label": label(name, params),
                      "baselines": " ".join(baselines)})
    write_table(reports / "models.csv", pd.DataFrame(lines))
    for name in params.variants.trained:
        write_json(reports / "parameters" / "variants" / f"{name}.json",
                   variant_settings(params, name))
    plain = dataclasses.asdict(params)
    for name, keys in MEASUREMENTS.items():
        write_json(reports / "settings" / f"{name}.json", settings(plain, keys))


if __name__ == "__main__":
    main()
