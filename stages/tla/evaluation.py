"""The white-box suite: every attack on every test image, one row an image."""

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from tla.attacks import run_attack
from tla.data import Split
from tla.params import Attack
from tla.referee import check
from tla.rows import key, readouts


def attack_rows(model: nn.Module, split: Split, attacks: dict[str, Attack], *, eps: float, batch: int,
                generator: torch.Generator, title: str, position: int) -> pd.DataFrame:
    """Every attack on every image: idx, label, clean_pred and the outcome of each attack and budget."""
    with torch.no_grad():
        clean = torch.cat([model(x)[0].argmax(1) for x in split.x.split(batch)])
    columns = {"idx": split.idx, "label": split.y, "clean_pred": clean}
    for name, attack in tqdm(attacks.items(), title, position=position, leave=False, disable=None):
        parts = [_attack_batch(model, x, y, name, attack, eps, generator)
                 for x, y in zip(split.x.split(batch), split.y.split(batch), strict=True)]
        columns |= {k: torch.cat([part[k] for part in parts]) for k in parts[0]}
    return pd.DataFrame({k: v.cpu().numpy() for k, v in columns.items()})


def _attack_batch(model, x, y, name, attack, eps, generator) -> dict[str, torch.Tensor]:
    def logits_fn(images):
        return model(images)[0]

    result = run_attack(logits_fn, x, y, attack, eps=eps, convention="last", generator=generator)
    out = {f"{key(name)}_linf": torch.from_numpy(check(x, result.x_adv, eps))}
    with torch.no_grad():
        out[f"{key(name)}_pred"] = logits_fn(result.x_adv).argmax(1)
    for readout, (_, i) in readouts({name: attack}).items():
        out[f"{key(readout)}_worst"] = result.worst[i].byte()
        out[f"{key(readout)}_last"] = result.last[i].byte()
    return out
