"""The methods, one file each: this folder is their list.

A file `my_method.py` is the method `my-method`. It says LABEL (its name in tables), BASELINES (the
models it is set against), MINES (whether it takes negatives from a pool), Parameters (its section
under `methods` in params.yaml, the learning rate `lr` among them), images() (what it trains on) and
loss(); where it needs another network than the study's, network() makes it of that one. Reports
read the labels, so a method file imports torch, and what needs it, inside its functions.
"""

import dataclasses
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tla.params import Params, UserError, check_params, check_space, checked, load_params
from tla.sources import code_of

FILES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
METHODS: dict[str, ModuleType] = {
    name.replace("_", "-"): import_module(f"{__name__}.{name}") for name in FILES}


@dataclasses.dataclass(frozen=True)
class ModelId:
    """A model of a study: its method and, where that mines, the size of its pool of negatives."""

    name: str
    method: str
    pool: int | None


VARIED = ("model", "attack", "train", "methods", "mining")     # what a variant may change


def load_study(path: str | Path) -> Params:
    """`load_params`, with methods and variants checked too. Raises UserError likewise."""
    params = with_methods(load_params(path), path)
    for name in params.variants.trained:
        variant_of(params, name)
    return params


def with_methods(params: Params, path: str | Path) -> Params:
    """Parameters whose sections under `methods` are the Parameters of their methods."""
    if unknown := sorted(params.methods.keys() - METHODS.keys()):
        raise UserError(f"{path}: methods.{unknown[0]}: no such method; there are "
                        f"{', '.join(METHODS)}")
    sections = {}
    for name, section in params.methods.items():
        sections[name] = checked(METHODS[name].Parameters, section, path, ("methods", name))
    found = dataclasses.replace(params, methods=sections)
    for name in params.models:
        parse_model(name, found)
    check_space(found, path)
    return found


def variant_of(params: Params, name: str) -> Params:
    """What the models of a variant are trained with: a study's parameters and the changes.

    Raises UserError for a change of a key that is not there or may not differ, or of a bad value.
    """
    place = f"{params.config}: variants.trained.{name}.changes"
    changes = params.variants.trained[name].changes
    for key in changes:
        if key.split(".")[0] not in VARIED:
            raise UserError(f"{place}: {key}: only {', '.join(VARIED)} can be varied")
    nothing = {"part": "test", "attacks": {}, "trained": {}, "scale": None, "gain": None}
    return changed(params, {"variants": nothing} | changes, place)


def changed(params: Params, changes: dict, place: str) -> Params:
    """A study's parameters with other values at dotted keys.

    Raises UserError, which names the `place` of the changes, for a key that is not there or a bad
    value.
    """
    plain = dataclasses.asdict(params)
    for key, value in changes.items():
        if not _replaced(plain, key, value):
            raise UserError(f"{place}: {key}: no such key")
    try:
        return with_methods(check_params(plain, params.config), params.config)
    except UserError as error:
        raise UserError(f"{place}: {str(error).removeprefix(f'{params.config}: ')}") from None


def _replaced(plain: dict, key: str, value: object) -> bool:
    """Sets a dotted key that is there; returns whether it is."""
    *sections, last = key.split(".")
    for name in sections:
        plain = plain.get(name)
        if not isinstance(plain, dict):
            return False
    if last not in plain:
        return False
    plain[last] = value
    return True


def parse_model(name: str, params: Params) -> ModelId:
    """'alp' -> ALP, 'tla' -> TLA with the study's pool, 'tla-b30' -> with a pool of 30.

    Raises UserError where the study does not list the model, or has no section for its method.
    """
    if name not in params.models:
        raise UserError(f"{params.config}: models: {name!r} is not among them; choose one of "
                        f"{', '.join(params.models)}")
    method, pool = name, None
    if swept := re.fullmatch(r"(.+)-b([1-9]\d*)", name):
        method, pool = swept[1], int(swept[2])
    mines = method in METHODS and METHODS[method].MINES
    if method not in METHODS or (swept and not mines):
        raise UserError(f"{params.config}: models: {name!r} is no method; there are "
                        f"{', '.join(METHODS)}, and tla-b<pool> for a pool of its own")
    if method not in params.methods:
        raise UserError(f"{params.config}: methods.{method}: is missing, but {name} is listed "
                        "under models")
    if mines and pool is None:
        # A method with a pool of its own is left alone by an ablation of mining.batch.
        own = params.methods[method]
        pool = own.mining_batch if hasattr(own, "mining_batch") else params.mining.batch
    return ModelId(name, method, pool)


def label(name: str, params: Params) -> str:
    """How tables call a model: 'at' -> 'AT', 'tla-b1' -> 'TLA-RN', 'tla-b30' -> 'TLA, pool 30'."""
    model = parse_model(name, params)
    called = METHODS[model.method].LABEL
    if name == model.method:
        return called
    return f"{called}-RN" if model.pool == 1 else f"{called}, pool {model.pool}"


def training_parameters(params: Params, name: str) -> dict:
    """Every parameter that had a part in training a model, as plain data."""
    model, plain = parse_model(name, params), dataclasses.asdict(params)
    known = {"method": model.method, "parameters": plain["methods"][model.method],
             "mining_batch": model.pool}
    for section in ("dataset", "data", "model", "attack", "train"):
        known[section] = plain[section]
    return known


def training_code(params: Params, name: str) -> str:
    """SHA-256 of the code that trains a model: the loop and all it needs, and the model's method.

    A new method so retrains no other.
    """
    method = parse_model(name, params).method.replace("-", "_")
    return code_of("tla.train.training", f"{__name__}.{method}")
