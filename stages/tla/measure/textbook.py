"""Textbook attacks beside PGD: no ball, a chosen class, and the smallest change that reaches it."""

import torch
from torch import Tensor, nn

from tla.measure.answers import Columns, predict
from tla.measure.engine import least_likely
from tla.params import Textbook
from tla.train.chance import stream
from tla.train.data import Split
from tla.train.pgd import Logits, cross_entropy, input_gradient


def step_in_domain(logits_fn: Logits, x: Tensor, labels: Tensor, *, step_size: float, steps: int,
                   sign: int) -> Tensor:
    """Sign steps on cross-entropy at `labels`, clipped to [0, 1] only (Kurakin et al. 2017).

    sign +1 moves away from `labels`, -1 (targeted) toward them. One step of size eps is FGSM.
    """
    for _ in range(steps):
        _, gradient = input_gradient(logits_fn, x, labels, cross_entropy)
        x = (x + sign * step_size * gradient.sign()).clamp(0, 1)
    return x


def smallest_linf(logits_fn: Logits, x: Tensor, targets: Tensor, *, steps: int,
                  rel_step_size: float, halvings: int, generator: torch.Generator) -> Tensor:
    """Smallest eps per image, [n], at which targeted PGD reaches `targets`; inf where none does.

    PGD from the image, then from a random start: an upper bound. Bisection over eps from 0 to 1;
    within 2 ** -halvings of where PGD begins to succeed.
    """
    n = len(x)
    low, high = x.new_zeros(n), x.new_full((n,), torch.inf)
    eps = torch.ones_like(low)
    for _ in range(halvings + 1):
        ball = eps.view(-1, *[1] * (x.ndim - 1))
        reached = _reaches(logits_fn, x, targets, ball, steps, rel_step_size, generator)
        low, high = torch.where(reached, low, eps), torch.where(reached, eps, high)
        eps = torch.where(high.isfinite(), (low + high) / 2, 1)
    return high


def _reaches(logits_fn: Logits, x: Tensor, targets: Tensor, eps: Tensor, steps: int,
             rel_step_size: float, generator: torch.Generator) -> Tensor:
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    reached = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for x_adv in (x, low + (high - low) * noise):
        for _ in range(steps):
            logits, gradient = input_gradient(logits_fn, x_adv, targets, cross_entropy)
            reached |= logits.argmax(1) == targets
            x_adv = (x_adv - rel_step_size * eps * gradient.sign()).clamp(low, high)
        with torch.no_grad():
            reached |= logits_fn(x_adv).argmax(1) == targets
    return reached


def smallest_l2(model: nn.Module, x: Tensor, targets: Tensor, steps: int) -> Tensor:
    """L2 distance per image, [n], at which DDN (Rony et al. 2019) reaches `targets`; else inf."""
    import foolbox
    network = foolbox.PyTorchModel(
        nn.Sequential(model, _First()).eval(), bounds=(0, 1), device=x.device)
    goal = foolbox.criteria.TargetedMisclassification(targets)
    found, _, reached = foolbox.attacks.DDNAttack(steps=steps)(network, x, goal, epsilons=None)
    return torch.where(reached, (found - x).flatten(1).norm(dim=1), torch.inf)


class _First(nn.Module):
    """The logits of (logits, embedding)."""

    def forward(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        return outputs[0]


def textbook_columns(model: nn.Module, split: Split, settings: Textbook, *, classes: int,
                     eps: float, batch: int, seed: int) -> Columns:
    """Classes after each attack and the distortions, each [n]; the chosen class is the next one.

    `domain` moves away from the label, the others toward the chosen or the least likely class: in
    one step of size eps, or in settings.steps. Pixels stay in [0, 1], in no ball.
    """
    def logits_fn(x):
        return model(x)[0]

    chosen, unlikely = (split.y + 1) % classes, least_likely(logits_fn, split.x)
    columns = {"clean_pred": predict(model, split.x, batch),
               "chosen": chosen, "least_likely": unlikely}
    small = {"step_size": settings.rel_step_size * eps, "steps": settings.steps}
    one = {"step_size": eps, "steps": 1}
    for name, labels, sign, size in (
            ("domain", split.y, 1, small),
            ("chosen_one_step", chosen, -1, one), ("chosen_iterative", chosen, -1, small),
            ("least_likely_one_step", unlikely, -1, one),
            ("least_likely_iterative", unlikely, -1, small)):
        x_adv = step_in_domain(logits_fn, split.x, labels, sign=sign, **size)
        columns[f"{name}_pred"] = predict(model, x_adv, batch)
        columns[f"{name}_linf"] = (x_adv - split.x).abs().flatten(1).amax(1)
    columns["smallest_linf"] = smallest_linf(
        logits_fn, split.x, chosen, steps=settings.steps, rel_step_size=settings.rel_step_size,
        halvings=settings.halvings, generator=stream(seed, "queries", split.x.device))
    columns["smallest_l2"] = smallest_l2(model, split.x, chosen, settings.l2_steps)
    return columns


def leaking_columns(model: nn.Module, split: Split, factors: list[float], *, eps: float,
                    batch: int) -> Columns:
    """clean_pred and, at each factor x eps, fgsm_<factor>_pred, each [n].

    A model that is more accurate under FGSM than on clean images reads the label off the attack.
    """
    columns = {"clean_pred": predict(model, split.x, batch)}
    for factor in factors:
        x_adv = step_in_domain(lambda x: model(x)[0], split.x, split.y,
                               step_size=factor * eps, steps=1, sign=1)
        columns[f"fgsm_{factor:g}_pred"] = predict(model, x_adv, batch)
    return columns
