"""Projected gradient descent in L-infinity, plainly (Madry et al. 2018).

It makes training images and picks checkpoints. Images are in [0, 1]; only input gradients are
computed, and the model is left as it was found.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tla.params import Attack
from tla.train.ranks import ALONE, Part

Logits = Callable[[Tensor], Tensor]          # images [n, c, h, w] -> logits [n, k]
Loss = Callable[[Tensor, Tensor], Tensor]    # logits [n, k], labels [n] -> loss [n], to be raised


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy per example, [n]."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest wrong logit minus the true one, [n]: positive where misclassified (C&W 2017, f6)."""
    true = logits.gather(1, labels[:, None]).squeeze(1)
    wrong = logits.scatter(1, labels[:, None], -torch.inf).max(1).values
    return wrong - true


SELECTING: dict[str, Loss] = {"cross_entropy": cross_entropy, "margin": margin}


def random_start(x: Tensor, eps: float, generator: torch.Generator, part: Part = ALONE) -> Tensor:
    """x + U(-eps, eps), clipped to [0, 1]; x may be a rank's `part` of a batch."""
    noise = part.rand_like(x, generator)
    return (x + eps * (2 * noise - 1)).clamp(0, 1)


def input_gradient(logits_fn: Logits, x: Tensor, labels: Tensor,
                   loss: Loss) -> tuple[Tensor, Tensor]:
    """Logits at x and the gradient of the summed loss with respect to x."""
    x = x.detach().requires_grad_()
    logits = logits_fn(x)
    (gradient,) = torch.autograd.grad(loss(logits, labels).sum(), x)
    return logits.detach(), gradient


def pgd_linf(logits_fn: Logits, x: Tensor, labels: Tensor, *, eps: float, step_size: float,
             steps: int, loss: Loss, start: Tensor) -> Tensor:
    """Images after `steps` sign steps from `start`, each projected to eps ball and [0, 1]."""
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    x_adv = start
    for _ in range(steps):
        _, gradient = input_gradient(logits_fn, x_adv, labels, loss)
        x_adv = torch.add(x_adv, gradient.sign(), alpha=step_size).clamp(low, high)
    return x_adv


@dataclass(frozen=True)
class Adversary:
    """What a method makes its training images with: a network, and eps and steps at this moment."""

    logits_fn: Logits
    eps: float
    step_size: float
    steps: int
    smoothing: float
    generator: torch.Generator
    part: Part = ALONE      # of the batch, that the images are

    def pgd(self, x: Tensor, y: Tensor) -> Tensor:
        """PGD from a random start on the model's own (smoothed) cross-entropy, as the authors."""
        def loss(logits, labels):
            return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.smoothing)
        return self.ascend(x, y, loss)

    def ascend(self, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
        """PGD from a random start on another loss."""
        start = random_start(x, self.eps, self.generator, self.part)
        return pgd_linf(self.logits_fn, x, y, eps=self.eps, step_size=self.step_size,
                        steps=self.steps, loss=loss, start=start)

    def fgsm(self, x: Tensor, y: Tensor) -> Tensor:
        """One step of size eps from the image itself (Goodfellow et al. 2015)."""
        return pgd_linf(self.logits_fn, x, y, eps=self.eps, step_size=self.eps, steps=1,
                        loss=cross_entropy, start=x)


def robust(logits_fn: Logits, x: Tensor, y: Tensor, attacks: dict[str, Attack], *, eps: float,
           generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Who is classified correctly, [n], and who stays so at every step of every attack, [n].

    Each attack runs to its last budget, without momentum.
    """
    with torch.no_grad():
        clean = logits_fn(x).argmax(1) == y
    survivors = clean.nonzero().squeeze(1)
    for attack in attacks.values():
        for _ in range(attack.restarts):
            left = _survive(logits_fn, x[survivors], y[survivors], attack, eps, generator)
            survivors = survivors[left]
    mask = torch.zeros_like(clean)
    mask[survivors] = True
    return clean, mask


def _survive(logits_fn, x, y, attack: Attack, eps, generator) -> Tensor:
    """Rows of x that stay correct at every step of one run; the others are stepped no further."""
    x_adv = random_start(x, eps, generator) if attack.random_start else x
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    rows = torch.arange(len(x), device=x.device)
    for _ in range(attack.steps[-1]):
        if not len(rows):       # some layers refuse an empty batch
            return rows
        logits, gradient = input_gradient(logits_fn, x_adv, y, SELECTING[attack.loss])
        step = attack.rel_step_size * eps
        x_adv = torch.add(x_adv, gradient.sign(), alpha=step).clamp(low, high)
        right = logits.argmax(1) == y
        rows, x_adv, y, low, high = (t[right] for t in (rows, x_adv, y, low, high))
    if not len(rows):
        return rows
    with torch.no_grad():
        return rows[logits_fn(x_adv).argmax(1) == y]
