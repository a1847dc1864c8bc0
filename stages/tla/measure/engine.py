"""L-infinity gradient attacks that waste no step.

A logits function, images in [0, 1], labels and a generator go in; images and outcomes come out.
Only input gradients are computed, and the model is left as it was found. The outcome of every
example is that of the plain loop `tla.train.pgd.pgd_linf`, read at several budgets, but an example
is stepped no further once its future is known.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from tla.outcomes import CONVENTIONS
from tla.params import Attack
from tla.train.pgd import Logits, Loss, cross_entropy, input_gradient, margin, random_start


def margin_50(logits: Tensor, labels: Tensor) -> Tensor:
    """C&W margin with confidence 50, -relu(50 - margin), as in the authors' pgd_attack.py; [n]."""
    return -F.relu(50 - margin(logits, labels))


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy, "margin": margin, "margin_50": margin_50}


def toward(target_loss: Loss) -> Loss:
    """The loss of a targeted attack: lower `target_loss` at the target class."""
    return lambda logits, targets: -target_loss(logits, targets)


def least_likely(logits_fn: Logits, x: Tensor) -> Tensor:
    """Class of the smallest logit, [n]: the target of Kurakin et al. 2017."""
    with torch.no_grad():
        return logits_fn(x).argmin(1)


@dataclass(frozen=True)
class AttackResult:
    """What an attack did to n examples.

    `last[b]`: correct after the last of `steps[b]` steps, in every restart (as the paper has it).
    `worst[b]`: correct at every step up to `steps[b]`, in every restart (monotone; the headline).
    `last` is None where the attack ran under the convention "worst": it stopped early.
    `x_adv` is the final iterate of the restart that first broke the example at the largest budget,
    else of the last restart.
    """

    x_adv: Tensor
    worst: Tensor
    last: Tensor | None


def run_attack(logits_fn: Logits, x: Tensor, y: Tensor, attack: Attack, *, eps: float,
               convention: str, generator: torch.Generator) -> AttackResult:
    """Attack x [n, c, h, w] with labels y [n] and record who survives each budget of attack.steps.

    Three savings, all exact: an example whose iterate repeats is not stepped further (not with
    momentum, whose state does not repeat); under the convention "worst" an example is done at its
    first misclassification; a broken example is left out of later restarts.
    Raises ValueError for an unknown loss, momentum or convention and logits that are not finite.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown convention {convention!r}")
    loss, labels = _objective(logits_fn, x, y, attack.loss)
    worst = torch.ones(len(attack.steps), len(x), dtype=torch.bool, device=x.device)
    last, x_adv = worst.clone(), x.clone()
    outcome = worst if convention == "worst" else last      # filled in place below
    unbroken = torch.arange(len(x), device=x.device)
    for _ in range(attack.restarts):
        if not len(unbroken):
            break
        part = x[unbroken]
        start = random_start(part, eps, generator) if attack.random_start else part
        run = _Run(part, start, y[unbroken], labels[unbroken], eps, attack, convention)
        run.ascend(logits_fn, loss, attack.rel_step_size * eps)
        intact = outcome[-1, unbroken]
        x_adv[unbroken[intact]] = run.final[intact]
        worst[:, unbroken] &= run.worst()
        last[:, unbroken] &= run.last()
        unbroken = unbroken[outcome[:, unbroken].any(0)]
    return AttackResult(x_adv, worst, None if convention == "worst" else last)


def _objective(logits_fn: Logits, x: Tensor, y: Tensor, name: str) -> tuple[Loss, Tensor]:
    """The loss to be raised, and the labels it is taken at."""
    if name == "least_likely":
        return toward(cross_entropy), least_likely(logits_fn, x)
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}")
    return LOSSES[name], y


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

    def __init__(self, x, start, y, labels, eps: float, attack: Attack, convention: str):
        n, device = len(x), x.device
        self.attack, self.total = attack, attack.steps[-1]
        self.stop_when_wrong = convention == "worst"
        self.active = _Active(
            index=torch.arange(n, device=device), x=start, y=y, labels=labels,
            low=(x - eps).clamp(0, 1), high=(x + eps).clamp(0, 1),
            velocity=torch.zeros_like(x), mark=start)
        self.correct = torch.ones(self.total + 1, n, dtype=torch.bool, device=device)
        self.end = torch.full((n,), self.total, device=device)
        self.period = torch.zeros(n, dtype=torch.long, device=device)
        self.cycle_start = torch.zeros_like(self.period)
        self.mark_step = 0
        self.final = start.clone()

    def ascend(self, logits_fn: Logits, loss: Loss, step_size: float) -> None:
        for step in range(self.total + 1):
            logits, gradient = self._look(logits_fn, loss, step)
            if self.attack.momentum == "none":
                self._find_cycles(step)
            done = self._record(logits, step)
            if done.all():
                return
            if done.any():
                self.active.keep(~done)
                gradient = gradient[~done]
            self._move(gradient, step_size)

    def _look(self, logits_fn: Logits, loss: Loss, step: int) -> tuple[Tensor, Tensor | None]:
        """Logits at the iterates and, but for the last ones, the gradient there."""
        active, gradient = self.active, None
        if step < self.total:
            logits, gradient = input_gradient(logits_fn, active.x, active.labels, loss)
        else:
            with torch.no_grad():
                logits = logits_fn(active.x)
        if not logits.isfinite().all():     # argmax would call such an example correct at random
            raise ValueError(
                f"the model returned logits that are not finite at attack step {step}")
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

    def _record(self, logits: Tensor, step: int) -> Tensor:
        """Note who is correct, and the final iterates of those who are done: [active] bool."""
        active = self.active
        right = logits.argmax(1) == active.y
        self.correct[step, active.index] = right
        done = self.end[active.index] == step
        if self.stop_when_wrong:
            done |= ~right
        self.final[active.index[done]] = active.x[done]
        return done

    def _move(self, gradient: Tensor, step_size: float) -> None:
        active = self.active
        active.velocity = _momentum(active.velocity, gradient, self.attack)
        sign = active.velocity.sign()
        active.x = torch.add(active.x, sign, alpha=step_size).clamp(active.low, active.high)

    def worst(self) -> Tensor:
        """Correct at every step up to each budget, [budgets, n]."""
        return torch.stack([self.correct[: budget + 1].all(0) for budget in self.attack.steps])

    def last(self) -> Tensor:
        """Correct at the last step of each budget, [budgets, n]."""
        steps = [self._same_iterate(budget) for budget in self.attack.steps]
        return self.correct.gather(0, torch.stack(steps))

    def _same_iterate(self, budget: int) -> Tensor:
        """For each example, an observed step whose iterate is that of step `budget`."""
        phase = (budget - self.cycle_start) % self.period.clamp(min=1)
        in_cycle = (self.period > 0) & (budget > self.cycle_start)
        return torch.where(in_cycle, self.cycle_start + phase, budget)


def _momentum(velocity: Tensor, gradient: Tensor, attack: Attack) -> Tensor:
    """What is followed instead of the gradient: nothing else ("none"), the paper's running average
    ("average"), or the sum of gradients of L1 norm 1 ("l1": MIM, Dong et al. 2018)."""
    if attack.momentum == "none":
        return gradient
    if attack.momentum == "average":
        return attack.decay * velocity + (1 - attack.decay) * gradient
    if attack.momentum != "l1":
        raise ValueError(f"unknown momentum {attack.momentum!r}")
    norm = gradient.flatten(1).abs().sum(1).clamp(min=torch.finfo(gradient.dtype).tiny)
    return attack.decay * velocity + gradient / norm.view(-1, *[1] * (gradient.ndim - 1))
