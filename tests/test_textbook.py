"""Textbook attacks: no ball, a chosen class, and the smallest change that reaches it."""


import pytest
import torch
from small_study import Flat, Linear, logits

from tla.measure.textbook import (
    leaking_columns,
    smallest_l2,
    smallest_linf,
    step_in_domain,
    textbook_columns,
)
from tla.train.chance import stream
from tla.train.pgd import cross_entropy, pgd_linf

EPS, CPU = 0.15, torch.device("cpu")


def test_one_step_in_the_domain_is_fgsm_and_many_leave_the_ball(net, split):
    one = step_in_domain(logits(net), split.x, split.y, step_size=EPS, steps=1, sign=1)
    point = split.x.clone().requires_grad_()
    torch.nn.functional.cross_entropy(net(point)[0], split.y, reduction="sum").backward()
    torch.testing.assert_close(one, (split.x + EPS * point.grad.sign()).clamp(0, 1))
    many = step_in_domain(logits(net), split.x, split.y, step_size=0.05, steps=10, sign=1)
    assert (many - split.x).abs().max() > 0.4 and many.min() >= 0 and many.max() <= 1


def test_steps_toward_a_class_raise_its_probability(net, split):
    target = (split.y + 1) % 10
    moved = step_in_domain(logits(net), split.x, target, step_size=0.01, steps=5, sign=-1)
    before = net(split.x)[0].softmax(1).gather(1, target[:, None])
    after = net(moved)[0].softmax(1).gather(1, target[:, None])
    assert (after > before).float().mean() > 0.95


# The smallest change

def linf(model, x, targets, **numbers):
    numbers = {"steps": 20, "rel_step_size": 0.1, "halvings": 12} | numbers
    return smallest_linf(logits(model), x, targets, generator=torch.Generator().manual_seed(0),
                         **numbers)


def test_smallest_distortions_of_a_linear_classifier_are_its_distances():
    """To the plane w x + b = 0: |w x + b| over the L1 norm of w for L-infinity, the L2 for L2."""
    model = Linear([1.0, -2.0], 0.1)
    # w x + b = -0.3 and -0.2: class 0
    x = torch.tensor([[0.5, 0.45], [0.5, 0.4]]).view(2, 1, 1, 2)
    targets = torch.tensor([1, 1])
    expected = torch.tensor([0.1, 0.2 / 3])
    torch.testing.assert_close(linf(model, x, targets), expected, atol=1e-3, rtol=0)
    l2 = smallest_l2(model, x, targets, steps=200)
    torch.testing.assert_close(l2, torch.tensor([0.3, 0.2]) / 5 ** 0.5, atol=5e-3, rtol=0)


@pytest.mark.parametrize("halvings", [1, 3, 6])
def test_the_smallest_change_is_found_to_within_a_power_of_two(halvings):
    model = Linear([1.0, -2.0], 0.1)
    x = torch.tensor([[0.5, 0.45], [0.5, 0.4]]).view(2, 1, 1, 2)
    found = linf(model, x, torch.tensor([1, 1]), halvings=halvings)
    over = found - torch.tensor([0.1, 0.2 / 3])
    assert (over >= -1e-6).all() and (over <= 2 ** -halvings + 1e-6).all()


def test_the_smallest_change_is_also_sought_from_a_random_start():
    """From mid-grey itself no gradient leads anywhere; of three draws of noise one mostly does."""
    grey, target = torch.full((32, 1, 1, 2), 0.5), torch.ones(32, dtype=torch.long)
    found = linf(Flat(), grey, target, steps=10, halvings=2)
    assert found.isfinite().float().mean() > 0.5


def test_a_class_out_of_reach_has_infinite_distance():
    model = Linear([0.1, 0.1], -1.0)    # class 1 needs w x > 1, but w x is 0.2 at most
    x = torch.full((1, 1, 1, 2), 0.5)
    found = linf(model, x, torch.tensor([1]), steps=5, rel_step_size=0.3, halvings=3)
    assert found.isinf().all()
    assert smallest_l2(model, x, torch.tensor([1]), steps=20).isinf().all()


# Columns

def test_each_textbook_attack_is_aimed_at_its_own_class(net, split, make_params):
    """By plain steps in a ball of 1, which is no ball."""
    settings = make_params(
        {"textbook.steps": 6, "textbook.halvings": 4, "textbook.l2_steps": 20}).textbook
    test = split.take(slice(0, 40))
    found = textbook_columns(net, test, settings, classes=10, eps=EPS, batch=7, seed=0)
    chosen, last = (test.y + 1) % 10, net(test.x)[0].argmin(1)
    assert 9 in test.y and found["clean_pred"].equal(net(test.x)[0].argmax(1))
    assert found["chosen"].equal(chosen) and found["least_likely"].equal(last)
    for name, labels, step_size, steps in (
            ("domain", test.y, 0.015, 6),
            ("chosen_one_step", chosen, -EPS, 1), ("chosen_iterative", chosen, -0.015, 6),
            ("least_likely_one_step", last, -EPS, 1),
            ("least_likely_iterative", last, -0.015, 6)):
        x_adv = pgd_linf(logits(net), test.x, labels, eps=1, step_size=step_size, steps=steps,
                         loss=cross_entropy, start=test.x)
        assert found[f"{name}_pred"].equal(net(x_adv)[0].argmax(1)), name
        away = (x_adv - test.x).abs().flatten(1).amax(1)
        torch.testing.assert_close(found[f"{name}_linf"], away)
    assert found["smallest_l2"].equal(smallest_l2(net, test.x, chosen, 20))
    assert found["smallest_linf"].equal(smallest_linf(
        logits(net), test.x, chosen, steps=6, rel_step_size=0.1, halvings=4,
        generator=stream(0, "queries", CPU)))


def test_label_leaking_is_looked_for_by_fgsm_over_eps(net, split):
    found = leaking_columns(net, split, [0.5, 2.0], eps=EPS, batch=9)
    assert list(found) == ["clean_pred", "fgsm_0.5_pred", "fgsm_2_pred"]
    assert found["clean_pred"].equal(net(split.x)[0].argmax(1))
    for factor in (0.5, 2.0):
        x_adv = step_in_domain(logits(net), split.x, split.y, step_size=factor * EPS, steps=1,
                               sign=1)
        assert found[f"fgsm_{factor:g}_pred"].equal(net(x_adv)[0].argmax(1))
