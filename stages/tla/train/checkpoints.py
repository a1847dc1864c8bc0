"""Trained weights in safetensors, with what made them in the metadata.

A file says which model and seed of which study it is, with which parameters and by which code it
was trained. One that is another, or that differs from today's parameters or code, is refused.
"""

import json
from pathlib import Path

from torch import nn

from tla.files import write_bytes
from tla.params import Params, UserError
from tla.train.data import Dataset
from tla.train.methods import training_code, training_parameters
from tla.train.models import network_of
from tla.train.ranks import size
from tla.train.stored import Tensors, difference, packed, read_tensors

REMEDY = "run dvc repro, or dvc pull where it is stored"
RETRAIN = "retrain it with dvc repro"


def identity(params: Params, name: str, seed: int) -> dict:
    """All that decides a training, as plain data; the seed's position decides the fold."""
    used = training_parameters(params.trained_with(name), name)
    known = {"name": name, "seed": seed, "position": params.seeds.index(seed),
             "code": training_code(params, name), "params": used}
    return json.loads(json.dumps(known))


def training_key(params: Params, name: str, seed: int) -> str:
    """What an interrupted training must agree on to be continued.

    The number of ranks is part of it: it decides how sums are rounded.
    """
    return json.dumps(identity(params, name, seed) | {"ranks": size()}, sort_keys=True)


def model_path(params: Params, name: str, seed: int, within: str = "") -> Path:
    """Where the weights of one seed of a model lie; `within` a folder for those of a variant."""
    return Path("data", params.dataset, "models", within, name, f"seed-{seed}.safetensors")


def save_model(path: Path, network: nn.Module, params: Params, name: str, seed: int,
               data: Dataset) -> None:
    """Write the weights as `train.stored` says; the file appears whole or not at all."""
    about = identity(params, name, seed) | {"shape": list(data.shape), "classes": data.classes}
    weights = network.state_dict()
    if params.train.stored == "float16":
        for tensor, values in weights.items():
            weights[tensor] = values.half() if values.is_floating_point() else values
    write_bytes(path, packed(weights, about))


def load_model(path: Path, params: Params, name: str, seed: int) -> nn.Module:
    """The network in evaluation mode.

    Raises UserError for a file that is missing, damaged or foreign, of another model or seed, or
    trained otherwise than `params` and today's code do.
    """
    weights, about = read_tensors(path, REMEDY)
    _refuse_other(path, about, identity(params, name, seed))
    _refuse_infinite(path, weights)
    network = network_of(params, name, tuple(about["shape"]), about["classes"], seed=0)
    network.load_state_dict(weights)
    return network.eval()


def _refuse_other(path: Path, about: dict, today: dict) -> None:
    for key in ("name", "seed", "position", "params", "code"):
        if found := difference({key: about.get(key)}, {key: today[key]}):
            found = found.removeprefix("params.")
            raise UserError(f"{path}: was trained with {found}; {RETRAIN}")


def _refuse_infinite(path: Path, weights: Tensors) -> None:
    for name, values in weights.items():
        if not values.isfinite().all():
            raise UserError(f"{path}: holds weights that are not finite: {name}; {RETRAIN}")
