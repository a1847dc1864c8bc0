"""The white-box suite: every attack on every test image, one row an image."""

import numpy as np
import torch
from torch import Tensor, nn

from tla.core.attacks import run_attack
from tla.core.data import Split
from tla.params import Attack
from tla.referee import check
from tla.rows import key, readouts


def check_model(model: nn.Module, x: Tensor, classes: int) -> None:
    """Raise ValueError where a model is unfit for gradient attacks: wrong shape, not finite, random, no logits."""
    with torch.no_grad():
        logits, again = model(x)[0], model(x)[0]
    if logits.shape != (len(x), classes):
        raise ValueError(f"returned logits of shape {tuple(logits.shape)}, not {(len(x), classes)}")
    if not logits.isfinite().all():
        raise ValueError("returned logits that are not finite")
    if not logits.equal(again):
        raise ValueError("answered differently when asked again; attacks need a fixed model")
    if (logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-4).all():
        raise ValueError("returned probabilities; attacks need logits, or the gradient vanishes")


def clean_columns(model: nn.Module, split: Split, batch: int) -> dict[str, Tensor]:
    """idx, label and clean_pred of every image of a part, each [n]."""
    with torch.no_grad():
        logits = torch.cat([model(x)[0] for x in split.x.split(batch)])
    if not logits.isfinite().all():
        raise ValueError("the model returned logits that are not finite on clean images")
    clean = logits.argmax(1)
    return {"idx": split.idx, "label": split.y, "clean_pred": clean}


def attack_columns(model: nn.Module, split: Split, name: str, attack: Attack, *, eps: float, batch: int,
                   generator: torch.Generator) -> dict[str, Tensor]:
    """Outcome of one attack on every image, `batch` at a time, each column [n].

    <attack>_linf: largest pixel change; <attack>_pred: class of the image it returns; per budget
    <attack>_worst and <attack>_last: 1 where correct under that convention.
    """
    parts = [_attack_batch(model, x, y, name, attack, eps, generator)
             for x, y in zip(split.x.split(batch), split.y.split(batch), strict=True)]
    return {column: torch.cat([part[column] for part in parts]) for column in parts[0]}


def _attack_batch(model, x, y, name, attack, eps, generator) -> dict[str, Tensor]:
    def logits_fn(images):
        return model(images)[0]

    result = run_attack(logits_fn, x, y, attack, eps=eps, convention="last", generator=generator)
    columns = {f"{key(name)}_linf": torch.from_numpy(check(x, result.x_adv, eps).astype(np.float32))}
    with torch.no_grad():
        columns[f"{key(name)}_pred"] = logits_fn(result.x_adv).argmax(1)
    for readout, (_, i) in readouts({name: attack}).items():
        columns[f"{key(readout)}_worst"] = result.worst[i].byte()
        columns[f"{key(readout)}_last"] = result.last[i].byte()
    return columns
