"""Retrieval by cosine, majorities and distances of classes, on cases whose answer is visible."""

import dataclasses

import numpy as np
import pytest
import torch

from tla.measure import retrieval
from tla.measure.retrieval import (
    class_distances,
    figure,
    majority,
    neighbor_columns,
    retrieve,
    unit,
)
from tla.train.data import Split


def test_a_zero_embedding_stays_zero():
    assert unit(np.zeros((1, 3))).tolist() == [[0, 0, 0]]


def test_units_have_length_one_in_double_precision():
    found = unit(np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32))
    assert found.dtype == np.float64
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-15)


# Retrieval

def test_retrieval_orders_by_angle_not_length():
    gallery = np.array([[10.0, 0], [1, 1], [0, 0.1]])
    rows, cosines = retrieve(gallery, np.array([[0.1, 0.02]]), 3)
    assert rows.tolist() == [[0, 1, 2]]
    length = np.hypot(0.1, 0.02)
    assert cosines[0] == pytest.approx([0.1 / length, 0.12 / length / np.sqrt(2), 0.02 / length])


def test_retrieval_agrees_with_sorting_all_cosines(monkeypatch):
    """Also where the queries come in several blocks."""
    rng = np.random.default_rng(0)
    gallery, query = rng.normal(size=(60, 5)), rng.normal(size=(23, 5))
    cosines = unit(query) @ unit(gallery).T
    for block in (1000, 7):
        monkeypatch.setattr(retrieval, "BLOCK", block)
        rows, found = retrieve(gallery, query, 9)
        assert rows.tolist() == np.argsort(-cosines, axis=1)[:, :9].tolist()
        assert found == pytest.approx(-np.sort(-cosines, axis=1)[:, :9], abs=1e-11)


def test_of_equally_near_rows_the_earlier_comes_first():
    """Also among those that share the last place, and although lengths differ."""
    gallery = np.array([[0, 1], [2, 0], [1, 0], [3, 0], [0.1, 0.1], [0.5, 0]])
    for k, expected in ((1, [1]), (3, [1, 2, 3]), (5, [1, 2, 3, 5, 4]), (6, [1, 2, 3, 5, 4, 0])):
        assert retrieve(gallery, np.array([[7.0, 0]]), k)[0].tolist() == [expected]


def test_of_many_equally_near_rows_the_earliest_come_first():
    gallery = np.tile([[1.0, 0], [1, 1], [2, 0]], (20, 1))
    near = [i for i in range(60) if i % 3 != 1]
    rows, _ = retrieve(gallery, np.array([[7.0, 0]]), 50)
    assert rows.tolist() == [near + [i for i in range(60) if i % 3 == 1][:10]]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_what_differs_by_rounding_is_a_tie(k):
    """Another machine adds the products up in another order; at the last place too."""
    gallery, query = np.array([[1, 0], [1, 4e-16], [1, 8e-16]]), np.array([[1.0, 1.0]])
    cosines = (unit(query) @ unit(gallery).T)[0]
    assert cosines[0] < cosines[2]
    assert retrieve(gallery, query, k)[0].tolist() == [list(range(k))]


def test_a_gallery_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="4 neighbours among 3"):
        retrieve(np.eye(3), np.eye(3), 4)


# Classes

def test_majority_takes_the_smaller_class_on_a_tie():
    assert majority(np.array([[2, 1, 1], [3, 0, 0], [2, 1, 3]]), 4).tolist() == [1, 0, 1]


def test_neighbours_by_hand():
    found = np.array([[1, 1, 2], [0, 2, 2], [1, 0, 2]])
    columns = neighbor_columns("adv", found, np.array([1, 1, 2]), 3)
    assert list(columns) == ["adv_knn", "adv_precision"]
    assert columns["adv_knn"].tolist() == [1, 2, 0]
    assert columns["adv_precision"].tolist() == [2 / 3, 0, 1 / 3]


def test_an_image_is_not_its_own_neighbour():
    """Orthogonal images are all at distance 1, those of one class too; to itself it would be 0."""
    h, y = np.eye(3), np.array([0, 0, 1])
    assert class_distances(h, y, h, y) == (1, 1)


def test_class_distances_agree_with_a_loop_over_pairs():
    rng = np.random.default_rng(0)
    query, other, y = rng.normal(size=(9, 4)), rng.normal(size=(9, 4)), np.arange(9) % 3
    same, different = [], []
    for i in range(9):
        for j in range(9):
            cosine = query[i] @ other[j] / np.linalg.norm(query[i]) / np.linalg.norm(other[j])
            if i != j:
                (same if y[i] == y[j] else different).append(1 - cosine)
    found = class_distances(query, y, other, y)
    assert found == pytest.approx((np.mean(same), np.mean(different)))


# The figure

def test_the_figure_shows_the_first_query_of_each_class_and_what_it_retrieved(params):
    """No query is chosen by its result; classes 1, 0 and 3 are there, the last is beyond two."""
    settings = dataclasses.replace(params.neighbors, queries=2, retrieved=2)
    x = torch.arange(5.0).view(5, 1, 1, 1) / 10
    test = Split(x, torch.tensor([1, 0, 1, 3, 0]), torch.arange(5))
    train = Split(1 - x, torch.tensor([0, 1, 2, 3, 4]), torch.arange(5))
    found = np.array([[4, 3, 2], [2, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    pixels, captions = figure(test, x + 0.01, np.array([8, 9, 0, 0, 0]), found, train, settings)
    assert pixels.shape == (2, 4, 1, 1, 1)
    assert pixels[:, :, 0, 0, 0] == pytest.approx(
        np.array([[0.1, 0.11, 0.8, 0.9], [0.0, 0.01, 0.6, 0.7]]))
    assert captions.to_dict("list") == {"query": [0, 1], "predicted": [9, 8],
                                        "retrieved_1": [2, 4], "retrieved_2": [1, 3]}
