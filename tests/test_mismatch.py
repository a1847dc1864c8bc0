"""Targeted mismatch: targets, where a query ends, and what it retrieves there."""


import numpy as np
import pandas as pd
import pytest
import torch

from tla.measure import mismatch
from tla.measure.embedding import Outputs, outputs
from tla.measure.mismatch import mismatch_rows, moved, targets
from tla.measure.retrieval import unit
from tla.params import Mismatch, Neighbors
from tla.report import tables
from tla.report.statistics import wilson
from tla.train.data import TEST, TRAIN

EPS = 0.15


@pytest.fixture
def settings(params):
    return Neighbors(5, 3, 6, params.neighbors.attack, Mismatch(40, 0.1, 12))


def test_the_target_is_the_next_image_of_another_class():
    assert targets(torch.tensor([1, 1, 2, 1, 1])).tolist() == [2, 2, 3, 2, 2]
    y = torch.tensor([0, 3, 3, 3, 0, 1])
    assert (y[targets(y)] != y).all()


def test_queries_of_one_class_have_no_target():
    with pytest.raises(ValueError, match="all queries are of one class"):
        targets(torch.tensor([4, 4, 4]))


def distance(net, x, goal):
    return 1 - torch.nn.functional.cosine_similarity(net(x)[1], goal, dim=1)


@pytest.mark.parametrize("step_size", [0.015, 1.0])
def test_the_distance_to_the_target_falls_in_the_ball(step_size, net, dataset):
    """And never rises, not even with steps that are far too long."""
    test = dataset.split(0, TEST)
    with torch.no_grad():
        goal = net(test.x)[1][targets(test.y)]
    found = moved(net, test.x, goal, eps=EPS, step_size=step_size, steps=12)
    before, after = distance(net, test.x, goal), distance(net, found, goal)
    assert (after <= before + 1e-6).all()
    if step_size < EPS:
        assert (after < before - 0.01).float().mean() > 0.9
    assert (found - test.x).abs().max() <= EPS + 1e-6
    assert found.min() >= 0 and found.max() <= 1


def test_without_a_step_the_query_is_itself(net, dataset):
    test = dataset.split(0, TEST)
    goal = torch.ones(len(test.x), 16)
    assert moved(net, test.x, goal, eps=EPS, step_size=0.1, steps=0).equal(test.x)


@pytest.fixture
def rows(net, dataset, settings):
    train, test = dataset.split(0, TRAIN), dataset.split(0, TEST)
    return mismatch_rows(net, test, outputs(net, train.x, 64), train.y.numpy(), dataset.classes,
                         settings, eps=EPS, batch=17)


def test_a_row_is_of_a_query_and_its_target(rows, dataset, net):
    test = dataset.split(0, TEST)
    goal = targets(test.y)
    assert list(rows) == ["idx", "label", "target", "target_label", "linf", "clean_distance",
                          "clean_knn", "clean_precision", "moved_distance", "moved_knn",
                          "moved_precision"]
    assert rows.idx.tolist() == test.idx.tolist() and rows.label.tolist() == test.y.tolist()
    assert rows.target.tolist() == test.idx[goal].tolist()
    assert rows.target_label.tolist() == test.y[goal].tolist()
    h = unit(net(test.x)[1].numpy())
    assert rows.clean_distance.tolist() == pytest.approx(1 - (h * h[goal]).sum(1), rel=1e-4)
    assert (rows.moved_distance < rows.clean_distance).mean() > 0.9
    assert 0.1 < rows.linf.max() <= EPS + 1e-6


def test_moved_queries_lose_neighbours_of_their_class_to_the_targets(rows):
    assert rows.moved_precision.mean() < rows.clean_precision.mean()
    before, after = ((rows[f"{kind}_knn"] == rows.target_label).mean()
                     for kind in ("clean", "moved"))
    assert after > before


def test_moved_queries_pass_the_referee(net, dataset, settings, monkeypatch):
    monkeypatch.setattr(mismatch, "moved", lambda model, x, goal, **_: (x + 0.4).clamp(0, 1))
    test = dataset.split(0, TEST)
    gallery = Outputs(np.zeros(9), np.zeros(9), np.eye(16)[:9])
    with pytest.raises(ValueError, match="more than eps"):
        mismatch_rows(net, test, gallery, np.zeros(9, int), 10, settings, eps=EPS, batch=64)


# The table

ROWS = pd.DataFrame({
    "seed": [0, 0, 1, 1], "idx": [5, 6, 7, 8], "label": 1, "target_label": 2,
    "clean_distance": [1.0, 0.8, 0.6, 0.4], "moved_distance": [0.4, 0.2, 0.2, 0.0],
    "clean_knn": [1, 1, 2, 1], "moved_knn": [2, 2, 2, 0],
    "clean_precision": [1, 1, 0, 1], "moved_precision": [0.5, 0, 0, 0]})


def test_the_line_of_moved_queries_by_hand():
    (line,) = tables.mismatch_line(ROWS)
    low, high = wilson(3 / 4, 4)
    assert line == pytest.approx({
        "clean_distance": 0.7, "moved_distance": 0.2, "clean_precision": 0.75,
        "moved_precision": 0.125, "clean_target": 1 / 4, "moved_target": 3 / 4, "low": low,
        "high": high, "images": 4, "seeds": 2})


def test_a_moved_query_that_keeps_its_class_is_an_outcome_where_it_was_moved():
    suite = pd.DataFrame({"seed": [0, 0, 1], "idx": [5, 9, 8], "clean": 1})
    kept = ROWS.assign(moved_knn=[1, 2, 2, 0])
    found = tables.with_retrieved(suite, kept, "mismatch_last", "moved_knn")
    assert found.mismatch_last.isna().tolist() == [False, True, False]
    assert (found.mismatch_last[0], found.mismatch_last[2]) == (1, 0)
    assert tables.with_retrieved(suite, None, "mismatch_last", "moved_knn") is suite
