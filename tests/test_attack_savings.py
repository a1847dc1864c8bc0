"""The savings of run_attack are exact: the plain loop's outcome at far fewer gradients."""

from unittest.mock import patch

import pytest
import torch
from conftest import seeded

from tla.measure.engine import LOSSES, run_attack, toward
from tla.params import Attack
from tla.train.pgd import pgd_linf, random_start

BUDGETS = [5, 50, 300]


def plain(logits_fn, x, y, *, eps, rel_step_size, steps, loss, random_init=False, restarts=1,
          seed=0):
    """Every example stepped to the end by the plain loop, correctness noted after each step.

    Only the draws follow run_attack: a restart draws for those that no earlier one has broken.
    """
    generator = seeded(seed)
    labels, ascent = y, LOSSES.get(loss)
    if loss == "least_likely":
        labels, ascent = logits_fn(x).argmin(1), toward(LOSSES["cross_entropy"])
    last = torch.ones(len(steps), len(x), dtype=torch.bool)
    worst, x_adv, unbroken = last.clone(), x.clone(), torch.arange(len(x))
    for _ in range(restarts):
        part = x[unbroken]
        x_t = random_start(part, eps, generator) if random_init else part
        right = [logits_fn(x_t).argmax(1) == y[unbroken]]
        for _ in range(steps[-1]):
            x_t = pgd_linf(logits_fn, part, labels[unbroken], eps=eps,
                           step_size=rel_step_size * eps, steps=1, loss=ascent, start=x_t)
            right.append(logits_fn(x_t).argmax(1) == y[unbroken])
        right = torch.stack(right)
        x_adv[unbroken] = x_t
        for i, budget in enumerate(steps):
            last[i, unbroken] &= right[budget]
            worst[i, unbroken] &= right[: budget + 1].all(0)
        unbroken = unbroken[last[:, unbroken].any(0)]
    return x_adv, worst, last


def saving(logits_fn, x, y, *, eps, convention="last", momentum="none", decay=0.0,
           random_init=False, restarts=1, seed=0, **numbers):
    attack = Attack(kind="gradient", random_start=random_init, restarts=restarts,
                    momentum=momentum, decay=decay, **numbers)
    return run_attack(logits_fn, x, y, attack, eps=eps, convention=convention,
                      generator=seeded(seed))


def same(result, x_adv, worst, last):
    """Whether an attack's result is that of the plain loop, bit for bit."""
    return (torch.equal(result.worst, worst) and torch.equal(result.last, last)
            and torch.equal(result.x_adv, x_adv))


class Counted:
    """A logits function that counts the examples it differentiates."""

    def __init__(self, logits_fn):
        self.logits_fn, self.gradients = logits_fn, 0

    def __call__(self, x):
        self.gradients += len(x) if x.requires_grad else 0
        return self.logits_fn(x)


# Trained networks

@pytest.mark.parametrize("share", [0.2, 0.7, 1.5], ids=lambda share: f"step {share} eps")
@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "margin_50"])
@pytest.mark.parametrize("architecture", ["mlp", "convnet"])
def test_outcome_equals_the_plain_loop(architecture, loss, share, networks, images):
    logits_fn = Counted(lambda x: networks[architecture](x)[0])
    numbers = {"eps": 0.1, "rel_step_size": share, "steps": BUDGETS, "loss": loss,
               "random_init": True}
    x, y = images[0][:24], images[1][:24]
    expected = plain(logits_fn, x, y, **numbers)
    plain_cost, logits_fn.gradients = logits_fn.gradients, 0
    assert same(saving(logits_fn, x, y, **numbers), *expected)
    assert logits_fn.gradients < plain_cost, "no iterate repeated, so nothing was tested"


@pytest.mark.parametrize("steps", [
    [1], [1, 2, 3], [7, 8, 9, 31, 32, 33], [299, 300]], ids=str)
@pytest.mark.parametrize("architecture", ["mlp", "convnet"])
def test_outcome_equals_the_plain_loop_at_every_budget(architecture, steps, networks, images):
    def logits_fn(x):
        return networks[architecture](x)[0]

    numbers = {"eps": 0.07, "rel_step_size": 0.7, "steps": steps, "loss": "margin"}
    x, y = images[0][:24], images[1][:24]
    assert same(saving(logits_fn, x, y, **numbers), *plain(logits_fn, x, y, **numbers))


@pytest.mark.parametrize("restarts", [2, 4])
def test_outcome_equals_the_plain_loop_with_restarts(restarts, logits_fn, images):
    numbers = {"eps": 0.08, "rel_step_size": 0.6, "steps": [3, 40], "loss": "cross_entropy",
               "random_init": True, "restarts": restarts}
    _, worst, last = plain(logits_fn, *images, **numbers)
    result = saving(logits_fn, *images, **numbers)
    assert torch.equal(result.worst, worst)
    assert torch.equal(result.last, last)


def test_outcome_of_a_targeted_attack_equals_the_plain_loop(logits_fn, images):
    numbers = {"eps": 0.15, "rel_step_size": 1 / 3, "steps": BUDGETS, "loss": "least_likely"}
    assert same(saving(logits_fn, *images, **numbers), *plain(logits_fn, *images, **numbers))


@pytest.mark.parametrize("momentum", ["none", "l1", "average"])
@pytest.mark.parametrize("architecture", ["mlp", "convnet"])
def test_stopping_at_the_first_success_gives_the_same_worst(
        architecture, momentum, networks, images):
    logits_fn = Counted(lambda x: networks[architecture](x)[0])
    numbers = {"eps": 0.08, "rel_step_size": 0.6, "steps": BUDGETS, "loss": "cross_entropy",
               "random_init": True, "momentum": momentum, "decay": 0.9}
    full = saving(logits_fn, *images, convention="last", **numbers)
    cost, logits_fn.gradients = logits_fn.gradients, 0
    early = saving(logits_fn, *images, convention="worst", **numbers)
    assert torch.equal(early.worst, full.worst)
    assert early.last is None
    assert logits_fn.gradients < cost


def test_restarts_leave_out_the_broken(logits_fn, images):
    counted = Counted(logits_fn)
    numbers = {"eps": 0.08, "rel_step_size": 0.25, "steps": [10], "loss": "cross_entropy",
               "random_init": True, "momentum": "average"}
    first = saving(counted, *images, **numbers)
    counted.gradients = 0
    saving(counted, *images, restarts=2, **numbers)
    assert counted.gradients == 10 * (len(images[0]) + int(first.last.sum()))


# A model whose iterates walk around a square of the wanted size

STEP = 1 / 32   # a power of two, so that the walk repeats bit for bit


def walker(sides, tails):
    """Images (u, v, side): two pixels walk a line of `tail` steps into a loop of 4 x side."""
    sides, tails = torch.tensor(sides), torch.tensor(tails)
    x = torch.stack([0.5 - tails * STEP, torch.full((len(sides),), 0.5), sides * STEP], 1)
    return x.double().view(-1, 1, 1, 3), torch.zeros(len(sides), dtype=torch.long)


def walk_logits(x):
    """Class 1 wins on some cells of a grid; the third logit, never the largest, has the direction.
    """
    u, v, side = x.flatten(1).sub(torch.tensor([0.5, 0.5, 0.0])).div(STEP).unbind(1)
    i, j, k = (t.detach().round() for t in (u, v, side))
    right, up = (j == 0) & (i < k), (i == k) & (j < k)
    left, down = (j == k) & (i > 0), (i == 0) & (j > 0)
    along_u = torch.where(right, 1.0, torch.where(~up & left, -1.0, 0.0))
    falls = ~right & ~up & ~left & down
    along_v = torch.where(~right & up, 1.0, torch.where(falls, -1.0, 0.0))
    wrong = ((7 * i + 3 * j + 5 * k).remainder(11) == 4).double() - 0.5
    along = (along_u * u + along_v * v).double() - 1000
    return torch.stack([torch.zeros_like(wrong), wrong, along], 1)


def direction(logits, labels):
    return logits[:, 2]


@pytest.fixture
def follow_direction():
    """Attacks on the margin follow the third logit instead."""
    with patch.dict(LOSSES, margin=direction):
        yield


walking = pytest.mark.usefixtures("follow_direction")
WALK = {"eps": 0.5, "rel_step_size": STEP / 0.5, "loss": "margin"}   # the product is STEP, exactly
SIDES = [0, 1, 2, 3, 4, 5, 6, 7, 8] * 2
TAILS = [3] * 9 + [0, 1, 2, 3, 4, 0, 1, 2, 4]


def test_the_walker_has_the_periods_it_was_made_for():
    x, y = walker(SIDES, TAILS)
    position, path = x, [x]
    for _ in range(120):
        position = pgd_linf(walk_logits, x, y, eps=0.5, step_size=STEP, steps=1, loss=direction,
                            start=position)
        path.append(position)
    for row, (side, tail) in enumerate(zip(SIDES, TAILS, strict=True)):
        period = next(p for p in range(1, 80) if torch.equal(path[40][row], path[40 + p][row]))
        first = next(t for t in range(80) if torch.equal(path[t][row], path[t + period][row]))
        assert (period, first) == (max(4 * side, 1), tail)


@walking
@pytest.mark.parametrize("steps", [
    [5, 50, 300], [1, 16, 17, 18, 63, 64, 65], [90], [97], [105], [111], [118], [119], [120],
    [121]], ids=str)
def test_long_cycles_give_the_outcome_of_the_plain_loop(steps):
    x, y = walker(SIDES, TAILS)
    x_adv, worst, last = plain(walk_logits, x, y, steps=steps, **WALK)
    assert same(saving(walk_logits, x, y, steps=steps, **WALK), x_adv, worst, last)
    early = saving(walk_logits, x, y, steps=steps, convention="worst", **WALK)
    assert torch.equal(early.worst, worst)


@walking
@pytest.mark.parametrize("seed", range(5))
def test_long_cycles_with_restarts_give_the_outcome_of_the_plain_loop(seed):
    """Many examples are correct after the last step although they were not so at every step."""
    x, y = walker(SIDES, TAILS)
    numbers = {"steps": [5, 50], "random_init": True, "restarts": 3, "seed": seed, **WALK}
    _, worst, last = plain(walk_logits, x, y, **numbers)
    result = saving(walk_logits, x, y, **numbers)
    assert torch.equal(result.worst, worst)
    assert torch.equal(result.last, last)
    assert not torch.equal(worst, last)


@walking
def test_a_cycle_costs_a_few_of_its_lengths():
    """Brent: the mark is in the cycle, and kept long enough, before step 2 max(tail, period)."""
    x, y = walker(SIDES, TAILS)
    bound = 0
    for side, tail in zip(SIDES, TAILS, strict=True):
        bound += 2 * max(tail, 4 * side, 1) + 2 * max(4 * side, 1)
    for steps in (300, 3000):
        counted = Counted(walk_logits)
        saving(counted, x, y, steps=[steps], **WALK)
        assert counted.gradients <= bound < 0.25 * 300 * len(x)


@walking
def test_a_fixed_point_costs_no_more_gradients_at_a_larger_budget():
    x, y = walker([0] * 4, [0, 1, 2, 3])
    costs = []
    for steps in (20, 2000):
        counted = Counted(walk_logits)
        result = saving(counted, x, y, steps=[steps], **WALK)
        assert torch.equal(result.x_adv.flatten(1)[:, 0], torch.full((4,), 0.5).double())
        costs.append(counted.gradients)
    assert costs[0] == costs[1] <= 4 * 9


@walking
@pytest.mark.parametrize("momentum", ["l1", "average"])
def test_momentum_never_stops_at_a_repeated_iterate(momentum):
    """Its velocity does not repeat, so an iterate seen twice says nothing about the next one."""
    x, y = walker([0, 1, 2, 3], [0, 0, 1, 2])
    counted = Counted(walk_logits)
    saving(counted, x, y, steps=[50, 200], momentum=momentum, decay=0.5, **WALK)
    assert counted.gradients == 200 * len(x)


@walking
def test_velocity_can_leave_a_repeated_iterate():
    """One pixel rests at the edge until the averaged gradient turns: the plain rule would stay."""
    def logits_fn(x):
        calls.append(len(x))
        push = 1.0 if len(calls) <= 4 else -10.0
        other = torch.full((len(x),), -1.0)
        return torch.stack([torch.zeros(len(x)), other, push * x.flatten() - 1000], 1)

    calls = []
    x = torch.full((1, 1, 1, 1), 0.5)
    result = saving(logits_fn, x, torch.zeros(1, dtype=torch.long), eps=0.1, rel_step_size=1.0,
                    steps=[8], loss="margin", momentum="average", decay=0.5)
    assert result.x_adv.item() == pytest.approx(0.4)
