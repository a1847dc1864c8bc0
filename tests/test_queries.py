"""Attacks that see no gradient: Square its scores, HopSkipJump its decisions."""


import pytest
import torch
from small_study import Answers

from tla.measure import queries
from tla.measure.queries import hop_skip_columns, hop_skip_jump, square, square_columns
from tla.params import HopSkip, Square

EPS = 0.15


# Square

def test_square_stays_in_the_ball_and_never_unbreaks(net, split):
    x_adv = square(net, split, eps=EPS, queries=100, batch=30, seed=0)
    assert (x_adv - split.x).abs().max() <= EPS + 1e-6
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    clean = net(split.x)[0].argmax(1) == split.y
    after = net(x_adv)[0].argmax(1) == split.y
    assert not (after & ~clean).any() and after.sum() < clean.sum()


def test_square_columns_are_those_of_its_images(net, split):
    found = square_columns(net, split, "square", Square("square", 100), eps=EPS, batch=30, seed=0)
    x_adv = square(net, split, eps=EPS, queries=100, batch=30, seed=0)
    assert list(found) == ["square_linf", "square_pred", "square_worst"]
    assert found["square_pred"].equal(net(x_adv)[0].argmax(1))
    assert found["square_worst"].bool().equal(found["square_pred"] == split.y)
    torch.testing.assert_close(
        found["square_linf"], (x_adv - split.x).abs().flatten(1).amax(1))


def test_square_breaks_more_with_more_queries(net, split):
    left = []
    for number in (1, 30, 300):
        found = square_columns(net, split, "square", Square("square", number), eps=EPS, batch=64,
                               seed=0)
        left.append(found["square_worst"].sum().item())
    assert left[0] > left[1] > left[2]


def test_images_of_square_pass_the_referee(net, split, monkeypatch):
    monkeypatch.setattr(queries, "square", lambda model, split, **_: 1 - split.x)
    with pytest.raises(ValueError, match="more than eps"):
        square_columns(net, split, "square", Square("square", 10), eps=EPS, batch=30, seed=0)


# HopSkipJump

SETTINGS = HopSkip(images=5, iterations=3, evaluations=100, initial_evaluations=20)


def test_hop_skip_jump_returns_misclassified_images_nearer_than_its_start_and_counts_its_queries(
        net, split):
    few = split.take(slice(0, 5))
    found, asked = hop_skip_jump(net, few, SETTINGS, seed=0)
    again, _ = hop_skip_jump(net, few, SETTINGS, seed=0)
    assert torch.equal(found, again)
    assert (net(found)[0].argmax(1) != net(few.x)[0].argmax(1)).all()
    assert ((found - few.x).abs().flatten(1).amax(1) < 0.9).all()
    assert 20 < asked < 1000


def test_hop_skip_jump_finds_nothing_where_every_image_is_of_one_class(net, split):
    """It has no image to start from; every image counts as unbroken."""
    few = split.take(split.y == 3)
    found = hop_skip_columns(net, few, SETTINGS, seed=0)
    assert (net(few.x)[0].argmax(1) == 3).all() and len(few.y) > 1
    assert found["hop_skip_distance"].isinf().all() and (found["hop_skip_queries"] == 1).all()


def test_hop_skip_jump_needs_nothing_for_a_wrong_image_and_fails_where_the_image_is_unbroken(
        net, split, monkeypatch):
    """The stand-in reverses eleven images: the sixth stays as it is, the first and the last are
    both a zero. Classes 3 and 4 are wrong.
    """
    monkeypatch.setattr(
        queries, "hop_skip_jump", lambda network, few, *_: (few.x.flip(0), 7.0))
    swapped = Answers(net, lambda z: z[:, [0, 1, 2, 4, 3, 5, 6, 7, 8, 9]])
    few = split.take(slice(0, 11))
    found = hop_skip_columns(swapped, few, SETTINGS, seed=1)
    right = swapped(few.x)[0].argmax(1) == few.y
    away = (few.x.flip(0) - few.x).abs().flatten(1).amax(1)
    away[[0, 5, 10]] = torch.inf
    away[~right] = 0
    assert few.y[0] == few.y[10] == 0 and right[5] and not right.all()
    assert found["hop_skip_distance"].equal(away)
    assert found["hop_skip_queries"].tolist() == [7] * 11
