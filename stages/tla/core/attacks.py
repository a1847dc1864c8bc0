"""L-infinity gradient attacks as pure functions.

A logits function, images in [0, 1], labels and an explicit generator go in; images come out. Only
input gradients are computed, and the model is left as it was found. `pgd_linf` is the plain loop
(Madry et al. 2018) that makes training examples; `attack_linf` gives the same outcome per example,
reads it at several step budgets, and stops working on an example once its future is known.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from tla.params import Attack

Logits = Callable[[Tensor], Tensor]          # images [n, c, h, w] -> logits [n, k]
Loss = Callable[[Tensor, Tensor], Tensor]    # logits [n, k], labels [n] -> loss [n], to be raised


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy per example, [n]."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest wrong logit minus the true one, [n]: positive exactly where misclassified (C&W 2017, f6)."""
    true = logits.gather(1, labels[:, None]).squeeze(1)
    wrong = logits.scatter(1, labels[:, None], -torch.inf).max(1).values
    return wrong - true


def margin_50(logits: Tensor, labels: Tensor) -> Tensor:
    """C&W margin as the paper's code has it, -relu(50 - margin): confidence 50 (authors' pgd_attack.py)."""
    return -F.relu(50 - margin(logits, labels))


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "margin": margin, "margin_50": margin_50}


def toward(target_loss: Loss) -> Loss:
    """The loss of a targeted attack: lower `target_loss` at the target class."""
    return lambda logits, targets: -target_loss(logits, targets)


def least_likely(logits_fn: Logits, x: Tensor) -> Tensor:
    """Class of the smallest logit, [n]: the target of Kurakin et al. 2017."""
    with torch.no_grad():
        return logits_fn(x).argmin(1)


def random_start(x: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """x + U(-eps, eps), clipped to [0, 1]."""
    noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return (x + eps * (2 * noise - 1)).clamp(0, 1)


def input_gradient(logits_fn: Logits, x: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Logits at x and the gradient of the summed loss with respect to x."""
    x = x.detach().requires_grad_()
    logits = logits_fn(x)
    (gradient,) = torch.autograd.grad(loss(logits, labels).sum(), x)
    return logits.detach(), gradient


def pgd_linf(
    logits_fn: Logits, x: Tensor, labels: Tensor, *,
    eps: float, step_size: float, steps: int, loss: Loss, start: Tensor,
) -> Tensor:
    """Images after `steps` sign steps from `start`, each projected to the eps ball around x and to [0, 1]."""
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    x_adv = start
    for _ in range(steps):
        _, gradient = input_gradient(logits_fn, x_adv, labels, loss)
        x_adv = torch.add(x_adv, gradient.sign(), alpha=step_size).clamp(low, high)
    return x_adv


@dataclass(frozen=True)
class AttackResult:
    """What an attack did to n examples.

    `last[b]`: correct after the last of `steps[b]` steps, in every restart (the paper's convention).
    `worst[b]`: correct at every step up to `steps[b]`, in every restart (monotone; the headline).
    `last` is None where the attack ran under the convention "worst" and stopped at the first success.
    `x_adv` is the final iterate of the restart that first broke the example at the largest budget, else
    of the last restart.
    """

    x_adv: Tensor
    worst: Tensor
    last: Tensor | None


def attack_linf(
    logits_fn: Logits, x: Tensor, y: Tensor, *,
    eps: float, step_size: float, steps: list[int], loss: Loss, targets: Tensor | None,
    random_init: bool, restarts: int, momentum: str, decay: float, convention: str,
    generator: torch.Generator,
) -> AttackResult:
    """Attack x [n, c, h, w] with labels y [n] and record who survives each budget of `steps`.

    The gradient is that of `loss` at y, or of minus `loss` at `targets`. `momentum` is "none", "l1"
    (MIM, Dong et al. 2018) or "average" (the paper's, without normalisation). Three savings, all exact:
    an example whose iterate repeats is not stepped further (not with momentum, whose state does not
    repeat); under the convention "worst" an example is done at its first misclassification; a broken
    example is left out of later restarts. Raises ValueError where `steps` does not increase.
    """
    if sorted(set(steps)) != list(steps):
        raise ValueError(f"steps must increase, got {steps}")
    labels, ascent = (y, loss) if targets is None else (targets, toward(loss))
    worst = torch.ones(len(steps), len(x), dtype=torch.bool, device=x.device)
    last, x_adv = worst.clone(), x.clone()
    unbroken = torch.arange(len(x), device=x.device)
    for _ in range(restarts):
        if not len(unbroken):
            break
        part = x[unbroken]
        run = _Run(
            part, random_start(part, eps, generator) if random_init else part, y[unbroken],
            labels[unbroken], eps, steps[-1], convention == "worst", momentum == "none")
        run.ascend(logits_fn, ascent, step_size, momentum, decay)
        intact = (worst if convention == "worst" else last)[-1, unbroken]
        x_adv[unbroken[intact]] = run.final[intact]
        worst[:, unbroken] &= run.worst(steps)
        last[:, unbroken] &= run.last(steps)
        survived = (worst if convention == "worst" else last)[:, unbroken].any(0)
        unbroken = unbroken[survived]
    return AttackResult(x_adv, worst, None if convention == "worst" else last)


def run_attack(logits_fn: Logits, x: Tensor, y: Tensor, attack: Attack, *, eps: float,
               convention: str, generator: torch.Generator) -> AttackResult:
    """`attack_linf` with the numbers of a params.yaml entry."""
    targets = least_likely(logits_fn, x) if attack.loss == "least_likely" else None
    return attack_linf(
        logits_fn, x, y, eps=eps, step_size=attack.step_size, steps=attack.steps,
        loss=LOSSES.get(attack.loss, cross_entropy), targets=targets, random_init=attack.random_start,
        restarts=attack.restarts, momentum=attack.momentum, decay=attack.decay,
        convention=convention, generator=generator)


def robust(logits_fn: Logits, x: Tensor, y: Tensor, attacks: dict[str, Attack], *, eps: float,
           generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Who is classified correctly, [n], and who stays so at every step of every attack, [n]."""
    with torch.no_grad():
        clean = logits_fn(x).argmax(1) == y
    survivors = torch.nonzero(clean).squeeze(1)
    for attack in attacks.values():
        result = run_attack(logits_fn, x[survivors], y[survivors], attack,
                            eps=eps, convention="worst", generator=generator)
        survivors = survivors[result.worst[-1]]
    mask = torch.zeros_like(clean)
    mask[survivors] = True
    return clean, mask


@dataclass
class _Active:
    """The examples still being stepped, one row each."""

    index: Tensor       # row in the whole batch
    x: Tensor           # current iterate
    low: Tensor         # bounds of the eps ball within [0, 1]
    high: Tensor
    y: Tensor
    labels: Tensor
    velocity: Tensor
    mark: Tensor        # earlier iterate that repeats are looked for against

    def keep(self, rows: Tensor) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[rows])


class _Run:
    """One restart: steps every example until its outcome at every budget is known.

    With a fixed step the next iterate depends on the present one alone, so an iterate seen twice
    means a cycle. Brent's method finds it with one stored iterate, renewed at powers of two. An
    example in a cycle of period p is stepped on to the first step that is congruent to the last one
    modulo p, where its iterate equals the last one's.
    """

    def __init__(self, x, start, y, labels, eps, steps, stop_when_wrong, find_cycles):
        n, device = len(x), x.device
        self.total, self.stop_when_wrong, self.find_cycles = steps, stop_when_wrong, find_cycles
        low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
        index = torch.arange(n, device=device)
        self.active = _Active(index, start, low, high, y, labels, torch.zeros_like(x), start)
        self.correct = torch.ones(steps + 1, n, dtype=torch.bool, device=device)
        self.end = torch.full((n,), steps, device=device)
        self.period = torch.zeros(n, dtype=torch.long, device=device)
        self.cycle_start = torch.zeros_like(self.period)
        self.mark_step = 0
        self.final = start.clone()

    def ascend(self, logits_fn: Logits, loss: Loss, step_size: float, momentum: str, decay: float) -> None:
        for step in range(self.total + 1):
            active = self.active
            logits, gradient = self._look(logits_fn, loss, step)
            right = logits.argmax(1) == active.y
            self.correct[step, active.index] = right
            if self.find_cycles:
                self._find_cycles(step)
            done = self.end[active.index] == step
            if self.stop_when_wrong:
                done |= ~right
            if done.any():
                self.final[active.index[done]] = active.x[done]
                if done.all():
                    return
                active.keep(~done)
                gradient = gradient[~done]
            active.velocity = _momentum(active.velocity, gradient, momentum, decay)
            sign = active.velocity.sign()
            active.x = torch.add(active.x, sign, alpha=step_size).clamp(active.low, active.high)

    def _look(self, logits_fn, loss, step):
        active = self.active
        if step < self.total:
            logits, gradient = input_gradient(logits_fn, active.x, active.labels, loss)
        else:
            with torch.no_grad():
                logits, gradient = logits_fn(active.x), None
        if not logits.isfinite().all():     # argmax would call such an example correct or not at random
            raise ValueError(f"the model returned logits that are not finite at attack step {step}")
        return logits, gradient

    def _find_cycles(self, step: int) -> None:
        active = self.active
        if step:
            repeats = (active.x == active.mark).flatten(1).all(1)
            found = active.index[repeats & (self.period[active.index] == 0)]
            period = step - self.mark_step
            self.period[found], self.cycle_start[found] = period, self.mark_step
            self.end[found] = step + (self.total - step) % period
        if step & (step - 1) == 0:
            active.mark, self.mark_step = active.x, step

    def worst(self, steps: list[int]) -> Tensor:
        return torch.stack([self.correct[: budget + 1].all(0) for budget in steps])

    def last(self, steps: list[int]) -> Tensor:
        return torch.stack([self.correct.gather(0, self._same_iterate(b)[None])[0] for b in steps])

    def _same_iterate(self, budget: int) -> Tensor:
        """For each example, an observed step whose iterate is that of step `budget`."""
        phase = (budget - self.cycle_start) % self.period.clamp(min=1)
        in_cycle = (self.period > 0) & (budget > self.cycle_start)
        return torch.where(in_cycle, self.cycle_start + phase, budget)


def _momentum(velocity: Tensor, gradient: Tensor, kind: str, decay: float) -> Tensor:
    if kind == "none":
        return gradient
    if kind == "average":
        return decay * velocity + (1 - decay) * gradient
    norm = gradient.flatten(1).abs().sum(1).clamp(min=torch.finfo(gradient.dtype).tiny)
    return decay * velocity + gradient / norm.view(-1, *[1] * (gradient.ndim - 1))
