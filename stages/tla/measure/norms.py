"""Attacks in L2 and L0, norms that no model was trained against.

In L2 APGD at each radius and the smallest change by DDN, in L0 the fewest pixels by FMN and by the
pointwise attack; docs/norms.md says why these. Whatever an attack says of itself, its images are
shown to the model and measured anew: an image counts as broken at a radius where the model
misclassifies it and the change is no larger. So what a radius breaks, every larger one does.
"""

import logging
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tla.measure.answers import Columns, predict
from tla.measure.distances import TOLERANCE, l0_distance, l2_distance
from tla.measure.queries import Counted
from tla.outcomes import Outcome, outcome_columns
from tla.params import Apgd, Ddn, Fmn, Norms, Pointwise
from tla.train.data import Split

ATTACKS = {"l2": ("l2-apgd", "l2-ddn"), "l0": ("l0-fmn", "l0-pointwise")}


def at_radius(attack: str, radius: float) -> str:
    """The outcome of an attack at a radius: l2_0.5_worst."""
    return str(Outcome(attack, f"{radius:g}", "worst"))


def over_radii(norm: str) -> str:
    """The outcome over all radii of a norm: the share of them at which an image is correct."""
    return str(Outcome(norm, "mean", "worst"))


# L2

def apgd_columns(model: nn.Module, split: Split, name: str, radii: list[float], settings: Apgd, *,
                 batch: int, seed: int) -> Columns:
    """`within_radii` of APGD in L2 (Croce and Hein 2020).

    It runs at each radius, the smallest first, on what is left. As in AutoAttack it raises
    cross-entropy, then the DLR loss toward the `targets` most likely other classes.
    """
    x_adv, left = split.x.clone(), predict(model, split.x, batch) == split.y
    for radius in radii:
        for attack in _apgd(model, radius, settings, split.x.device, seed):
            if left.any():
                with torch.no_grad():       # but where the attack itself asks for a gradient
                    x_adv[left] = attack.perturb(split.x[left], split.y[left])
                left &= predict(model, x_adv, batch) == split.y
    return within_radii(model, split, x_adv, name, radii, l2_distance, batch)


def _apgd(model: nn.Module, radius: float, settings: Apgd, device: torch.device,
          seed: int) -> Iterator:
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
    common = {"norm": "L2", "eps": radius, "n_iter": settings.steps, "seed": seed,
              "device": device, "logger": logging.getLogger("auto-attack")}
    yield APGDAttack(Counted(model), loss="ce", **common)
    yield APGDAttack_targeted(Counted(model), n_target_classes=settings.targets, **common)


def ddn_columns(model: nn.Module, split: Split, name: str, radii: list[float], settings: Ddn, *,
                batch: int, seed: int) -> Columns:
    """`within_radii` of the smallest L2 change by DDN (Rony et al. 2019)."""
    import foolbox
    torch.manual_seed(seed)     # the library draws a direction where a gradient is zero
    attack, network = foolbox.attacks.DDNAttack(steps=settings.steps), _foolbox(model, split)
    x_adv = attack.run(network, split.x, foolbox.criteria.Misclassification(split.y))
    return within_radii(model, split, x_adv, name, radii, l2_distance, batch)


def _foolbox(model: nn.Module, split: Split):
    import foolbox
    return foolbox.PyTorchModel(Counted(model).eval(), bounds=(0, 1), device=split.x.device)


# L0

def fmn_columns(model: nn.Module, split: Split, name: str, radii: list[int], settings: Fmn, *,
                batch: int, seed: int) -> Columns:
    """`within_radii` of the fewest pixels by FMN in L0 (Pintor et al. 2021), and `_put_back`."""
    import foolbox
    attack = foolbox.attacks.L0FMNAttack(steps=settings.steps, max_stepsize=settings.step_size)
    x_adv = attack.run(_foolbox(model, split), split.x, foolbox.criteria.Misclassification(split.y))
    np.random.seed(seed)        # the pointwise attack draws from it
    x_adv = _put_back(model, split, x_adv)
    return within_radii(model, split, x_adv, name, radii, l0_distance, batch)


def pointwise_columns(model: nn.Module, split: Split, name: str, radii: list[int],
                      settings: Pointwise, *, batch: int, seed: int) -> Columns:
    """`within_radii` of the fewest pixels by the pointwise attack (Schott et al. 2018).

    It asks for decisions alone and starts from the least salt-and-pepper noise that fools the
    model; the best of all restarts counts.
    """
    import foolbox
    np.random.seed(seed)
    torch.manual_seed(seed)     # of the noise
    noise = foolbox.attacks.SaltAndPepperNoiseAttack(steps=settings.noise_steps)
    network, criterion = _foolbox(model, split), foolbox.criteria.Misclassification(split.y)
    nearest, fewest = split.x.clone(), torch.full(split.y.shape, torch.inf, dtype=torch.float64)
    for _ in range(settings.restarts):
        x_adv = _put_back(model, split, noise.run(network, split.x, criterion))
        pixels = torch.from_numpy(l0_distance(split.x, x_adv))
        pixels[(predict(model, x_adv, batch) == split.y).cpu()] = torch.inf
        closer = pixels < fewest
        fewest[closer], nearest[closer] = pixels[closer], x_adv[closer]
    return within_radii(model, split, nearest, name, radii, l0_distance, batch)


def _put_back(model: nn.Module, split: Split, x_adv: Tensor) -> Tensor:
    """Images of which the pointwise attack put back every pixel that it need not have changed.

    It tries them one after the other in random order. What does not fool the model stays as it is.
    """
    import foolbox
    rows, x_adv = torch.arange(len(split.y), device=split.x.device), x_adv.clone()
    # Asked anew about who is left: the library stops where one of its starts does not fool.
    while not (fooled := predict(model, x_adv[rows], len(split.y)) != split.y[rows]).all():
        rows = rows[fooled]
    if len(rows):
        attack = foolbox.attacks.PointwiseAttack(l2_binary_search=False)
        x_adv[rows] = attack.run(
            _foolbox(model, split), split.x[rows],
            foolbox.criteria.Misclassification(split.y[rows]), starting_points=x_adv[rows])
    return x_adv


# What was found

def within_radii(model: nn.Module, split: Split, x_adv: Tensor, name: str, radii: list[float],
                 distance: Callable, batch: int) -> Columns:
    """<name>_pred, <name>_distance and, at each radius, 1 where still correct; each [n].

    The distance is that of the images which an attack returned, 0 where the image itself is
    misclassified, inf where the model classifies what was returned correctly.
    """
    pred = predict(model, x_adv, batch)
    away = torch.from_numpy(distance(split.x, x_adv)).to(pred.device)
    away[pred == split.y] = torch.inf
    away[predict(model, split.x, batch) != split.y] = 0
    columns = {f"{name}_pred": pred, f"{name}_distance": away}
    for radius in radii:
        columns[at_radius(name, radius)] = (away > radius + TOLERANCE).byte()
    return columns


def with_unions(rows: pd.DataFrame, norms: Norms) -> pd.DataFrame:
    """Rows of all attacks with what both of a norm leave.

    l2_<radius>_worst and l0_<radius>_worst: correct under both; <norm>_mean_worst: at this share of
    the radii; <norm>_distance: the smaller one.
    """
    unions = {}
    for norm, radii in (("l2", norms.l2_radii), ("l0", norms.l0_radii)):
        names, both = [at_radius(norm, radius) for radius in radii], {}
        for name, radius in zip(names, radii, strict=True):
            both[name] = rows[[at_radius(attack, radius) for attack in ATTACKS[norm]]].min(axis=1)
        unions |= both | {over_radii(norm): pd.DataFrame(both).mean(axis=1)}
        distances = [f"{attack}_distance" for attack in ATTACKS[norm]]
        unions[f"{norm}_distance"] = rows[distances].min(axis=1)
    return rows.assign(**unions)


def norm_metrics(rows: pd.DataFrame) -> dict[str, float | int]:
    """Accuracy of a model in l2 and l0, at each radius and over all, as `suite_metrics`."""
    metrics = {"norms_images": rows.idx.nunique()}
    for outcome in outcome_columns(rows):
        if Outcome.parse(outcome).attack in ATTACKS:
            metrics[f"{outcome}_accuracy"] = float(rows[outcome].groupby(rows.idx).mean().mean())
    return metrics
