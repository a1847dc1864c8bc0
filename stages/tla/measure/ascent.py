"""One run of signed gradient ascent that steps no example further once its future is known.

With a fixed step the next iterate depends on the present one alone, so an iterate seen twice means
a cycle. Nearly all runs end in a cycle of one or two steps, which shows two steps after it began;
the others are found by Brent's method, with one stored iterate renewed at powers of two. An example
in a cycle of period p is stepped on to the first step that is congruent to the last one modulo p,
where its iterate equals the last one's.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tla.params import Attack
from tla.train.pgd import Logits, Loss, input_gradient, margin

BRENT_EVERY = 8     # steps between two looks for longer cycles; finds each of them, only later
# Steps between two looks at who is done: on a GPU each of them waits for the device.
LOOK_EVERY = {"cpu": 2, "cuda": 16}


@dataclass
class Ball:
    """Images x [n, c, h, w], their classes, the labels that the loss is taken at, and eps."""

    x: Tensor
    y: Tensor
    labels: Tensor
    eps: float

    def take(self, rows: Tensor) -> "Ball":
        return Ball(self.x[rows], self.y[rows], self.labels[rows], self.eps)


@dataclass
class _Active:
    """The examples that are being stepped, one row each."""

    index: Tensor           # row in the whole batch
    x: Tensor               # current iterate
    low: Tensor             # bounds of the eps ball within [0, 1]
    high: Tensor
    y: Tensor
    labels: Tensor
    velocity: Tensor
    earlier: Tensor         # iterate at the last even step
    mark: Tensor            # iterate at the last power of two
    period: Tensor          # of the cycle that was found, 0 = none yet
    cycle_start: Tensor
    end: Tensor             # the step at which the example is done
    done: Tensor
    worst_x: Tensor         # iterate of the largest margin, which is the next field
    worst_margin: Tensor

    def keep(self, rows: Tensor) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[rows])


class Ascent:
    """Steps from `start`, [n, c, h, w], to the largest of the budgets attack.steps.

    `stop_when_wrong`: an example is done at its first misclassification. After `run`: `final`, the
    last iterates, and `velocity`, the momentum there; `worst_x`, the iterates of the largest margin
    so far (followed only where `searches`). Raises ValueError for logits that are not finite.
    """

    def __init__(self, ball: Ball, start: Tensor, velocity: Tensor, attack: Attack,
                 budgets: list[int], *, stop_when_wrong: bool, searches: bool):
        n, device = len(start), start.device
        self.attack, self.budgets, self.total = attack, budgets, budgets[-1]
        self.step_size = attack.rel_step_size * ball.eps
        self.stop_when_wrong, self.searches = stop_when_wrong, searches
        index = torch.arange(n, device=device)
        none = torch.zeros_like(index)
        self.active = _Active(
            index=index, x=start, y=ball.y, labels=ball.labels, velocity=velocity,
            low=(ball.x - ball.eps).clamp(0, 1), high=(ball.x + ball.eps).clamp(0, 1),
            earlier=start, mark=start, period=none, cycle_start=none,
            end=torch.full_like(none, self.total), done=torch.zeros_like(none, dtype=torch.bool),
            worst_x=start, worst_margin=torch.full((n,), -torch.inf, device=device))
        self.mark_step = 0
        self.sum = torch.zeros((), device=device)       # of all logits: not finite if one is not
        self.correct = torch.ones(self.total + 1, n, dtype=torch.bool, device=device)
        self.right = []             # who is correct, of the steps since rows were last left out
        self.period, self.cycle_start = none.clone(), none.clone()
        self.final, self.velocity, self.worst_x = start.clone(), velocity.clone(), start.clone()
        self.look_every, self.waits = LOOK_EVERY[device.type], device.type == "cuda"

    def run(self, logits_fn: Logits, loss: Loss) -> "Ascent":
        for step in range(self.total + 1):
            logits, gradient = self._ask(logits_fn, loss, step)
            if self.attack.momentum == "none":
                self._find_cycles(step)
            self._record(logits, step)
            if step % self.look_every == 0 or step == self.total:
                gradient = self._leave_out(gradient, step)
                if not len(self.active.index):
                    break
            self._move(gradient)
        return self

    def _ask(self, logits_fn: Logits, loss: Loss, step: int) -> tuple[Tensor, Tensor]:
        """Logits at the iterates and, but for the last ones, the gradient there."""
        active = self.active
        if step < self.total:
            logits, gradient = input_gradient(logits_fn, active.x, active.labels, loss)
        else:
            with torch.no_grad():
                logits = logits_fn(active.x)
            gradient = active.x         # nobody follows it
        self.sum = self.sum + logits.sum()
        return logits, gradient

    def _find_cycles(self, step: int) -> None:
        active = self.active
        if step and step % 2 == 0:
            self._note_cycles(active.earlier, step - 2, step)
        if step > self.mark_step and step % BRENT_EVERY == 0:
            self._note_cycles(active.mark, self.mark_step, step)
        if step % 2 == 0:
            active.earlier = active.x
        if step & (step - 1) == 0:
            active.mark, self.mark_step = active.x, step

    def _note_cycles(self, seen: Tensor, seen_step: int, step: int) -> None:
        """Those whose iterate equals the one `seen` at another step are in a cycle."""
        active, period = self.active, step - seen_step
        found = (active.x == seen).flatten(1).all(1) & (active.period == 0)
        if not (self.waits or found.any()):
            return
        active.period = torch.where(found, period, active.period)
        active.cycle_start = torch.where(found, seen_step, active.cycle_start)
        active.end = torch.where(found, step + (self.total - step) % period, active.end)

    def _record(self, logits: Tensor, step: int) -> None:
        """Note who is correct, and who is done."""
        active = self.active
        right = logits.argmax(1) == active.y
        self.right.append(right)
        active.done = active.done | (active.end == step)
        if self.stop_when_wrong:
            active.done = active.done | ~right
        if self.searches:
            found = margin(logits, active.y)
            better = found > active.worst_margin
            active.worst_margin = torch.where(better, found, active.worst_margin)
            active.worst_x = torch.where(_like(better, active.x), active.x, active.worst_x)

    def _leave_out(self, gradient: Tensor, step: int) -> Tensor:
        """The gradients of those who go on; the others are no longer asked about."""
        if not self.sum.isfinite():     # argmax would call such an example correct at random
            raise ValueError(f"the model returned logits that are not finite by attack step {step}")
        done = self.active.done.nonzero().squeeze(1)
        # A few that wait cost less than gathering all the others.
        if len(done) < len(self.active.index) / 16 and step < self.total:
            return gradient
        self._flush(done, step)
        rows = (~self.active.done).nonzero().squeeze(1)
        self.active.keep(rows)
        return gradient[rows]

    def _flush(self, done: Tensor, step: int) -> None:
        """Hand what is known of the active examples over to the whole batch."""
        active, at = self.active, self.active.index[done]
        self.correct[step + 1 - len(self.right): step + 1, active.index] = torch.stack(self.right)
        self.right.clear()
        self.final[at], self.velocity[at] = active.x[done], active.velocity[done]
        self.worst_x[at] = active.worst_x[done]
        self.period[at], self.cycle_start[at] = active.period[done], active.cycle_start[done]

    def _move(self, gradient: Tensor) -> None:
        """Everyone takes a step but those who wait to be left out."""
        active = self.active
        active.velocity = momentum(active.velocity, gradient, self.attack)
        sign = active.velocity.sign()
        moved = torch.add(active.x, sign, alpha=self.step_size).clamp(active.low, active.high)
        if self.waits or active.done.any():
            moved = torch.where(_like(active.done, moved), active.x, moved)
        active.x = moved

    def worst(self) -> Tensor:
        """Correct at every step up to each budget, [budgets, n]."""
        return torch.stack([self.correct[: budget + 1].all(0) for budget in self.budgets])

    def last(self) -> Tensor:
        """Correct at the last step of each budget, [budgets, n]."""
        steps = [self._same_iterate(budget) for budget in self.budgets]
        return self.correct.gather(0, torch.stack(steps))

    def _same_iterate(self, budget: int) -> Tensor:
        """For each example, an observed step whose iterate is that of step `budget`."""
        phase = (budget - self.cycle_start) % self.period.clamp(min=1)
        in_cycle = (self.period > 0) & (budget > self.cycle_start)
        return torch.where(in_cycle, self.cycle_start + phase, budget)


def _like(rows: Tensor, x: Tensor) -> Tensor:
    """A mask of rows, [n], in a shape that goes with images x [n, c, h, w]."""
    return rows.view(-1, *[1] * (x.ndim - 1))


def momentum(velocity: Tensor, gradient: Tensor, attack: Attack) -> Tensor:
    """What is followed instead of the gradient: nothing else ("none"), the paper's running average
    ("average"), or the sum of gradients of L1 norm 1 ("l1": MIM, Dong et al. 2018)."""
    if attack.momentum == "none":
        return gradient
    if attack.momentum == "average":
        return attack.decay * velocity + (1 - attack.decay) * gradient
    if attack.momentum != "l1":
        raise ValueError(f"unknown momentum {attack.momentum!r}")
    norm = gradient.flatten(1).abs().sum(1).clamp(min=torch.finfo(gradient.dtype).tiny)
    return attack.decay * velocity + gradient / _like(norm, gradient)
