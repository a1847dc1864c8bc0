"""Attacks in L2 and L0, norms that no model was trained against.

In L2 APGD at each radius and the smallest change by DDN, in L0 the fewest pixels by the pointwise
attack. Whatever an attack says of itself, its images are shown to the model and measured anew: an
image counts as broken at a radius where the model misclassifies it and the change is no larger. So
what a radius breaks, every larger one does.
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
from tla.params import Apgd, Ddn, Norms, Pointwise
from tla.train.data import Split

L2_ATTACKS = ("l2-apgd", "l2-ddn")      # `l2` is correct under both; `l0` is one attack


def at_radius(attack: str, radius: float) -> str:
    """The outcome of an attack at a radius, l2_0-5_worst: names of outcomes hold no dot."""
    return str(Outcome(attack, f"{radius:g}".replace(".", "-"), "worst"))


def over_radii(norm: str) -> str:
    """The outcome over all radii of a norm: the share of them at which an image is correct."""
    return str(Outcome(norm, "mean", "worst"))


# L2

def apgd_columns(model: nn.Module, split: Split, name: str, radii: list[float], settings: Apgd, *,
                 batch: int, seed: int) -> Columns:
    """`within_radii` of APGD in L2 (Croce and Hein 2020), at each radius on what is left, smallest first.

    As in AutoAttack it raises cross-entropy first, then the DLR loss toward the `targets` most
    likely other classes.
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

def pointwise_columns(model: nn.Module, split: Split, name: str, radii: list[int],
                      settings: Pointwise, *, batch: int, seed: int) -> Columns:
    """`within_radii` of the fewest pixels by the pointwise attack (Schott et al. 2018), of all restarts.

    It asks for decisions alone. From salt-and-pepper noise that fools the model it puts pixels back
    in random order for as long as the model is fooled. docs/norms.md says why this one.
    """
    np.random.seed(seed)        # the library draws from both global generators
    torch.manual_seed(seed)
    nearest, fewest = split.x.clone(), torch.full(split.y.shape, torch.inf, dtype=torch.float64)
    for _ in range(settings.restarts):
        x_adv = _pointwise(model, split, settings)
        pixels = torch.from_numpy(l0_distance(split.x, x_adv))
        pixels[(predict(model, x_adv, batch) == split.y).cpu()] = torch.inf
        closer = pixels < fewest
        fewest[closer], nearest[closer] = pixels[closer], x_adv[closer]
    return within_radii(model, split, nearest, name, radii, l0_distance, batch)


def _pointwise(model: nn.Module, split: Split, settings: Pointwise) -> Tensor:
    """Images after one restart; those that no noise made the model misclassify are noisy ones."""
    import foolbox
    network = _foolbox(model, split)
    noise = foolbox.attacks.SaltAndPepperNoiseAttack(steps=settings.noise_steps)
    x_adv = noise.run(network, split.x, foolbox.criteria.Misclassification(split.y))
    rows = torch.arange(len(split.y), device=split.x.device)
    # Asked anew about who is left: the library stops where one of its starts does not fool.
    while not (fooled := predict(model, x_adv[rows], len(rows)) != split.y[rows]).all():
        rows = rows[fooled]
    if len(rows):
        attack = foolbox.attacks.PointwiseAttack(l2_binary_search=False)
        x_adv[rows] = attack.run(
            network, split.x[rows], foolbox.criteria.Misclassification(split.y[rows]),
            starting_points=x_adv[rows])
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
    """Rows of all attacks with l2 at each radius, correct under both, and l2 and l0 over radii."""
    both = {}
    for radius in norms.l2_radii:
        each = [at_radius(attack, radius) for attack in L2_ATTACKS]
        both[at_radius("l2", radius)] = rows[each].min(axis=1)
    rows, means = rows.assign(**both), {}
    for norm, radii in (("l2", norms.l2_radii), ("l0", norms.l0_radii)):
        each = [at_radius(norm, radius) for radius in radii]
        means[over_radii(norm)] = rows[each].mean(axis=1)
    return rows.assign(**means)


def norm_metrics(rows: pd.DataFrame) -> dict[str, float | int]:
    """Accuracy of a model in l2 and l0, at each radius and over all, as `suite_metrics`."""
    metrics = {"norms_images": rows.idx.nunique()}
    for outcome in outcome_columns(rows):
        if Outcome.parse(outcome).attack not in L2_ATTACKS:
            metrics[f"{outcome}_accuracy"] = float(rows[outcome].groupby(rows.idx).mean().mean())
    return metrics
