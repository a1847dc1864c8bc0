"""Intervals: textbook values, exact differences, and the coverage they promise."""

import numpy as np
import pytest

from tla.rows import wilson
from tla.statistics import paired_difference


@pytest.mark.parametrize(("hits", "n", "low", "high"), [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)])
def test_wilson_agrees_with_the_table_of_newcombe_1998(hits, n, low, high):
    """Statistics in Medicine 17, table I, method 3."""
    assert wilson(hits / n, n) == pytest.approx((low, high), abs=5e-5)


def outcomes(seeds, n, rng, p_a=0.6, p_b=0.5, spread=0.0):
    """Outcomes of two models on the same images, whose accuracies move with the seed."""
    a, b = [], []
    for _ in range(seeds):
        luck = rng.random(n)    # an image easy for one model is easy for the other
        a.append((luck < p_a + rng.normal(0, spread)).astype(int))
        b.append((luck < p_b + rng.normal(0, spread)).astype(int))
    return a, b


def test_identical_outcomes_have_a_difference_of_exactly_zero():
    a, _ = outcomes(5, 80, np.random.default_rng(0))
    result = paired_difference(a, [row.copy() for row in a], 200, 0)
    assert result == {"difference": 0, "low": 0, "high": 0, "seeds_won": 0}


def test_difference_is_that_of_the_plain_means():
    a, b = outcomes(5, 80, np.random.default_rng(1))
    result = paired_difference(a, b, 200, 0)
    assert result["difference"] == pytest.approx(np.mean(a) - np.mean(b), abs=1e-12)


def test_exchanging_the_models_changes_the_sign():
    a, b = outcomes(4, 100, np.random.default_rng(2))
    there, back = paired_difference(a, b, 4000, 0), paired_difference(b, a, 4000, 1)
    assert there["difference"] == pytest.approx(-back["difference"], abs=1e-12)
    assert there["low"] == pytest.approx(-back["high"], abs=0.01)


def test_booleans_count_as_zeros_and_ones():
    a, b = outcomes(4, 100, np.random.default_rng(2))
    flags = [[row.astype(bool) for row in rows] for rows in (a, b)]
    assert paired_difference(*flags, 100, 0) == paired_difference(a, b, 100, 0)


def test_folds_of_unequal_size_are_paired_by_seed():
    a = [np.array([1, 1, 0]), np.array([1, 0])]
    b = [np.array([0, 1, 0]), np.array([1, 1])]
    result = paired_difference(a, b, 100, 0)
    assert result["difference"] == pytest.approx((1 / 3 - 1 / 2) / 2)


def test_seeds_won_counts_the_seeds_on_which_a_is_ahead():
    a = [np.array([1, 1, 1]), np.array([1, 0, 0]), np.array([1, 1, 0]), np.array([0, 0, 1])]
    b = [np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0, 0, 0]), np.array([1, 1, 1])]
    assert paired_difference(a, b, 50, 0)["seeds_won"] == 2     # a tie is not a win


def test_same_seed_gives_the_same_interval():
    a, b = outcomes(3, 50, np.random.default_rng(3))
    assert paired_difference(a, b, 300, 9) == paired_difference(a, b, 300, 9)
    assert paired_difference(a, b, 300, 9) != paired_difference(a, b, 300, 10)


def test_the_interval_reflects_the_spread_over_seeds():
    """Every image alike within a seed: only the seeds can move the difference."""
    a = [np.ones(1000, int)] * 3 + [np.zeros(1000, int)] * 3
    result = paired_difference(a, [np.zeros(1000, int)] * 6, 4000, 0)
    assert result["difference"] == 0.5
    assert 0.05 < result["low"] < 0.3 and 0.7 < result["high"] < 0.95


def test_the_interval_reflects_the_number_of_images():
    """Every seed alike: the width is that of a mean over all images, or a little more."""
    widths = []
    for n in (100, 1600):
        row = np.arange(n) % 2
        result = paired_difference([row] * 5, [np.zeros(n, int)] * 5, 4000, 0)
        widths.append(result["high"] - result["low"])
        assert widths[-1] == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(5 * n), rel=0.1)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.1)


def test_about_95_percent_of_the_intervals_cover_the_truth():
    """Ten seeds whose accuracies move by five points: the interval covers the true ten points as promised."""
    rng, covered, repetitions = np.random.default_rng(4), 0, 300
    for repetition in range(repetitions):
        result = paired_difference(*outcomes(10, 200, rng, spread=0.05), 300, repetition)
        covered += result["low"] <= 0.1 <= result["high"]
    assert 0.90 <= covered / repetitions <= 0.99
