"""Trained weights in safetensors, with what made them in the metadata.

A file says which architecture it is, with which parameters and by which code it was trained.
Loading it into another architecture, or under parameters that differ from today's, is refused.
"""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from tla.params import Params, UserError
from tla.train.data import Dataset
from tla.train.methods import training_code, training_parameters
from tla.train.models import network_of
from tla.train.ranks import size


def training_key(params: Params, name: str, position: int) -> str:
    """What an interrupted training must agree on to be continued; the position decides the fold.

    The number of ranks is part of it: it decides how sums are rounded.
    """
    known = [training_parameters(params, name), training_code(params, name), params.seeds, position,
             size()]
    return json.dumps(known, sort_keys=True)


def model_path(params: Params, name: str, seed: int, within: str = "") -> Path:
    """Where the weights of one seed of a model lie; `within` a folder for those of a variant."""
    return Path("data", params.dataset, "models", within, name, f"seed-{seed}.safetensors")


def save_model(path: Path, network: nn.Module, params: Params, name: str, seed: int,
               data: Dataset) -> None:
    """Write the weights; the file appears whole or not at all."""
    about = {"architecture": params.model.architecture, "shape": list(data.shape),
             "classes": data.classes, "seed": seed, "params": training_parameters(params, name),
             "code": training_code(params, name)}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(weights, unfinished, {"about": json.dumps(about, sort_keys=True)})
    unfinished.replace(path)


def load_model(path: Path, params: Params, name: str) -> nn.Module:
    """The network in evaluation mode. UserError if it was trained otherwise than `params` say."""
    if not path.exists():
        raise UserError(f"{path}: no such model; run dvc repro, or dvc pull where it is stored")
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
    if about["architecture"] != params.model.architecture:
        raise UserError(f"{path}: holds a {about['architecture']}, {params.config} asks for "
                        f"a {params.model.architecture}; retrain it with dvc repro")
    today = json.loads(json.dumps(training_parameters(params, name)))
    if different := _difference(about["params"], today):
        raise UserError(f"{path}: {different}; retrain it with dvc repro")
    network = network_of(params, name, tuple(about["shape"]), about["classes"], seed=0)
    network.load_state_dict(load_file(path))
    return network.eval()


def _difference(then: dict, now: dict, prefix: str = "") -> str | None:
    """First key on which two nested dictionaries disagree, in words."""
    for key in sorted(then.keys() | now.keys()):
        a, b = then.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            if found := _difference(a, b, f"{prefix}{key}."):
                return found
        elif a != b:
            return f"was trained with {prefix}{key} = {a}, today it is {b}"
    return None
