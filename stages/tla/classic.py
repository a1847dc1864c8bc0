"""Textbook attacks beside PGD: no ball, a chosen class, and the smallest change that reaches it."""

import foolbox
import torch
from torch import Tensor, nn

from tla.core.attacks import Logits, cross_entropy, input_gradient


def step_in_domain(logits_fn: Logits, x: Tensor, labels: Tensor, *, step_size: float, steps: int, sign: int) -> Tensor:
    """`steps` sign steps on cross-entropy at `labels`, clipped to [0, 1] only: Kurakin et al. 2017 without a ball.

    sign +1 moves away from `labels`, -1 (targeted) toward them. One step of size eps is FGSM.
    """
    for _ in range(steps):
        _, gradient = input_gradient(logits_fn, x, labels, cross_entropy)
        x = (x + sign * step_size * gradient.sign()).clamp(0, 1)
    return x


def smallest_linf(logits_fn: Logits, x: Tensor, targets: Tensor, *, steps: int, step_fraction: float,
                  halvings: int, generator: torch.Generator) -> Tensor:
    """Smallest eps per image, [n], at which targeted PGD reaches `targets`; inf where it does not at eps = 1.

    PGD from the image, then from a random start: an upper bound. Bisection over eps between 0 and 1;
    within 2 ** -halvings of where PGD begins to succeed.
    """
    n = len(x)
    low, high = x.new_zeros(n), x.new_full((n,), torch.inf)
    for i in range(halvings + 1):
        eps = torch.ones_like(low) if i == 0 else torch.where(high.isfinite(), (low + high) / 2, 1)
        reached = _reaches(logits_fn, x, targets, eps.view(-1, *[1] * (x.ndim - 1)), steps, step_fraction, generator)
        low, high = torch.where(reached, low, eps), torch.where(reached, eps, high)
    return high


def _reaches(logits_fn: Logits, x: Tensor, targets: Tensor, eps: Tensor, steps: int, step_fraction: float,
             generator: torch.Generator) -> Tensor:
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    reached = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for x_adv in (x, low + (high - low) * noise):
        for _ in range(steps):
            logits, gradient = input_gradient(logits_fn, x_adv, targets, cross_entropy)
            reached |= logits.argmax(1) == targets
            x_adv = (x_adv - step_fraction * eps * gradient.sign()).clamp(low, high)
        with torch.no_grad():
            reached |= logits_fn(x_adv).argmax(1) == targets
    return reached


def smallest_l2(model: nn.Module, x: Tensor, targets: Tensor, steps: int) -> Tensor:
    """L2 distance per image, [n], at which DDN (Rony et al. 2019, foolbox) reaches `targets`; inf where it does not."""
    network = foolbox.PyTorchModel(nn.Sequential(model, _First()).eval(), bounds=(0, 1), device=x.device)
    found, _, reached = foolbox.attacks.DDNAttack(steps=steps)(
        network, x, foolbox.criteria.TargetedMisclassification(targets), epsilons=None)
    return torch.where(reached, (found - x).flatten(1).norm(dim=1), torch.inf)


class _First(nn.Module):
    """The logits of (logits, embedding)."""

    def forward(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        return outputs[0]
