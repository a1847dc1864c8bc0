"""L-infinity gradient attacks that waste no step.

A logits function, images in [0, 1], labels and a generator go in; images and outcomes come out.
Only input gradients are computed, and the model is left as it was found. The outcome of every
example is that of the plain loop `tla.train.pgd.pgd_linf`, read at several budgets, but an example
is stepped no further once its future is known (`tla.measure.ascent`). A cheaper stand-in of the
model may search; the model itself decides.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tla.measure.ascent import Ascent, Ball
from tla.outcomes import CONVENTIONS
from tla.params import Attack
from tla.train.pgd import Logits, Loss, cross_entropy, margin, random_start


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
class Search:
    """A stand-in for the model that most steps ask, and how many before each budget do not."""

    logits_fn: Logits
    exact_steps: int


@dataclass(frozen=True)
class AttackResult:
    """What an attack did to n examples.

    `last[b]`: correct after the last of `steps[b]` steps, in every restart (as the paper has it).
    `worst[b]`: correct at every step up to `steps[b]`, in every restart (monotone; the headline);
    of the steps of a search, at the one that the stand-in found worst.
    `last` is None where the attack ran under the convention "worst": it stopped early.
    `x_adv` is the final iterate of the restart that first broke the example at the largest budget,
    else of the last restart.
    """

    x_adv: Tensor
    worst: Tensor
    last: Tensor | None


def run_attack(logits_fn: Logits, x: Tensor, y: Tensor, attack: Attack, *, eps: float,
               convention: str, generator: torch.Generator,
               search: Search | None = None) -> AttackResult:
    """Attack x [n, c, h, w] with labels y [n] and record who survives each budget of attack.steps.

    Three savings, all exact: an example whose iterate repeats is not stepped further (not with
    momentum, whose state does not repeat); under the convention "worst" an example is done at its
    first misclassification; a broken example is left out of later restarts.
    With `search`, most steps follow its gradients; who is correct is always said by `logits_fn`.
    Raises ValueError for an unknown loss, momentum or convention and logits that are not finite.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown convention {convention!r}")
    loss, labels = objective(logits_fn, x, y, attack.loss)
    whole = Ball(x, y, labels, eps)
    worst = torch.ones(len(attack.steps), len(x), dtype=torch.bool, device=x.device)
    last, x_adv = worst.clone(), x.clone()
    outcome = worst if convention == "worst" else last      # filled in place below
    unbroken = torch.arange(len(x), device=x.device)
    for _ in range(attack.restarts):
        if not len(unbroken):
            break
        ball = whole.take(unbroken)
        start = random_start(ball.x, eps, generator) if attack.random_start else ball.x
        run = _Run(ball, start, attack, convention == "worst")
        if search is None:
            run.exact(logits_fn, loss)
        else:
            run.searched(logits_fn, search, loss)
        intact = outcome[-1, unbroken]
        x_adv[unbroken[intact]] = run.x[intact]
        worst[:, unbroken] &= run.worst
        last[:, unbroken] &= run.last
        unbroken = unbroken[outcome[:, unbroken].any(0)]
    return AttackResult(x_adv, worst, None if convention == "worst" else last)


def objective(logits_fn: Logits, x: Tensor, y: Tensor, name: str) -> tuple[Loss, Tensor]:
    """The loss to be raised, and the labels it is taken at."""
    if name == "least_likely":
        return toward(cross_entropy), least_likely(logits_fn, x)
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}")
    return LOSSES[name], y


class _Run:
    """One restart from `start`: who is correct at each budget, `worst` and `last`, [budgets, n]."""

    def __init__(self, ball: Ball, start: Tensor, attack: Attack, stop_when_wrong: bool):
        self.ball, self.attack, self.stop_when_wrong = ball, attack, stop_when_wrong
        self.x, self.velocity = start.clone(), torch.zeros_like(start)
        shape = len(attack.steps), len(start)
        self.worst = torch.ones(shape, dtype=torch.bool, device=start.device)
        self.last = self.worst.clone()

    def exact(self, logits_fn: Logits, loss: Loss) -> None:
        """Every step asks the model."""
        rows = torch.arange(len(self.x), device=self.x.device)
        run = self._ascent(self.attack.steps, rows, searches=False).run(logits_fn, loss)
        self.x, self.worst, self.last = run.final, run.worst(), run.last()

    def searched(self, logits_fn: Logits, search: Search, loss: Loss) -> None:
        """Up to each budget the search, then the model for the last steps.

        What the search finds worst is shown to the model before these. Whoever it breaks there is
        broken from this budget on, and under the convention "worst" stepped no further.
        """
        done = 0
        for i, budget in enumerate(self.attack.steps):
            cheap = max(budget - done - search.exact_steps, 0)
            rows = self._left()
            if cheap and len(rows):
                run = self._ascent([cheap], rows, searches=True).run(search.logits_fn, loss)
                self._keep(run, rows)
                self._decide(logits_fn, run, rows, i)
                rows = self._left()
            if len(rows):
                exact = budget - done - cheap
                run = self._ascent([exact], rows, searches=False).run(logits_fn, loss)
                self._keep(run, rows)
                self.worst[i:, rows] &= run.worst()[-1]
                self.last[i, rows] = run.last()[-1]
            done = budget

    def _ascent(self, budgets: list[int], rows: Tensor, searches: bool) -> Ascent:
        """From where the rows stand now."""
        return Ascent(self.ball.take(rows), self.x[rows], self.velocity[rows], self.attack,
                      budgets, stop_when_wrong=self.stop_when_wrong, searches=searches)

    def _left(self) -> Tensor:
        """Rows to be stepped on: all, but the broken under the convention "worst"."""
        if self.stop_when_wrong:
            return self.worst[-1].nonzero().squeeze(1)
        return torch.arange(len(self.x), device=self.x.device)

    def _keep(self, run: Ascent, rows: Tensor) -> None:
        self.x[rows], self.velocity[rows] = run.final, run.velocity

    def _decide(self, logits_fn: Logits, run: Ascent, rows: Tensor, i: int) -> None:
        """Ask the model about the images that the search took for misclassified."""
        suspects = (~run.worst()[-1]).nonzero().squeeze(1)
        if not len(suspects):
            return
        with torch.no_grad():
            wrong = logits_fn(run.worst_x[suspects]).argmax(1) != self.ball.y[rows[suspects]]
        broken = rows[suspects[wrong]]
        self.worst[i:, broken] = False
        if self.stop_when_wrong:
            self.x[broken] = run.worst_x[suspects[wrong]]
