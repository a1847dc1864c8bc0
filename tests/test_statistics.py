"""Intervals: textbook values, exact differences, and the coverage they promise."""

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import ttest_1samp
from sklearn.metrics import roc_auc_score

from tla.report.statistics import (
    Case,
    auc_difference,
    holm,
    margin_p,
    paired_difference,
    weighted_auc,
    wilson,
)


@pytest.mark.parametrize(("hits", "n", "low", "high"), [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718)])
def test_wilson_agrees_with_the_table_of_newcombe_1998(hits, n, low, high):
    """Statistics in Medicine 17, table I, method 3."""
    assert wilson(hits / n, n) == pytest.approx((low, high), abs=5e-5)


def differences(seeds, n, rng, shared, spread=0.0):
    """Outcome differences of two models: images as hard for both, skill that moves with the seed.

    Of a the share right is about 0.82, of b 0.80; `truth` has the expected difference.
    """
    hardness = rng.normal(0, 1.5, n) if shared else rng.normal(0, 1.5, (seeds, n))
    right = []
    for skill in (1.5, 1.4):
        of_seed, of_image = rng.normal(0, spread, (seeds, 1)), rng.normal(0, 0.7, (seeds, n))
        right.append((hardness + skill + of_seed + of_image > 0).astype(int))
    return list(right[0] - right[1])


def truth(spread):
    scale = np.sqrt(1.5**2 + 0.7**2 + spread**2)
    return ndtr(1.5 / scale) - ndtr(1.4 / scale)


@pytest.mark.parametrize(("seeds", "shared"), [(3, True), (5, True), (5, False)])
@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds, shared, spread):
    rng, repetitions = np.random.default_rng(1), 1500
    results = []
    for _ in range(repetitions):
        drawn = differences(seeds, 300, rng, shared, spread)
        results.append(paired_difference(drawn, shared))
    covered = np.mean([r["low"] <= truth(spread) <= r["high"] for r in results])
    # 0.95, a share of 1,500 known to 0.006 (one sigma); more where seeds hardly matter, for images
    # alone are a floor.
    assert 0.93 < covered < (0.995 if spread < 0.1 else 0.97)


def test_small_p_values_are_not_too_frequent_where_there_is_no_difference():
    """Seeds that agree by luck must not give a p of 1 in 1,000, as the wider one's would."""
    rng, p = np.random.default_rng(7), []
    for _ in range(3000):
        of_images = rng.choice([-1, 0, 1], p=[0.05, 0.9, 0.05], size=(3, 400))
        d = rng.normal(0, 0.02, (3, 1)) + of_images
        p.append(paired_difference(list(d), shared=True)["p"])
    assert np.mean(np.array(p) < 0.001) < 0.0025
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.06


@pytest.mark.parametrize("shared", [True, False])
def test_seeds_that_agree_by_luck_do_not_undercut_the_noise_of_images(shared):
    """Each seed 3 of 100 ahead, on other images: equal means, and yet 9 in 300 may be chance."""
    d = [np.roll(np.repeat([1, -1, 0], [6, 3, 91]), 20 * s) for s in range(3)]
    result = paired_difference(d, shared)
    assert result["difference"] == pytest.approx(0.03)
    half = 1.97 * np.sqrt((0.09 - 0.03**2) / 300)
    assert (result["low"], result["high"]) == pytest.approx((0.03 - half, 0.03 + half), abs=2e-3)


def test_identical_outcomes_have_a_difference_of_exactly_zero():
    result = paired_difference([np.zeros(80, int)] * 5, shared=True)
    assert result == {"difference": 0, "low": 0, "high": 0, "p": 1, "standard_error": 0,
                      "degrees_of_freedom": 1, "seeds_won": 0}


def test_difference_is_the_mean_over_seeds_also_of_folds_of_unequal_size():
    result = paired_difference([np.array([1, 0, 0]), np.array([0, -1])], shared=False)
    assert result["difference"] == pytest.approx((1 / 3 - 1 / 2) / 2)


def test_exchanging_the_models_turns_the_interval_round():
    d = differences(4, 100, np.random.default_rng(2), shared=True, spread=0.3)
    there, back = paired_difference(d, True), paired_difference([-x for x in d], True)
    assert (there["low"], there["high"]) == pytest.approx((-back["high"], -back["low"]))
    assert there["p"] == pytest.approx(back["p"])


def test_seeds_won_counts_the_seeds_on_which_a_is_ahead():
    d = [np.array([1, 0, 0]), np.array([0, 0, 0]), np.array([-1, -1, 0]), np.array([1, 1, 1])]
    assert paired_difference(d, True)["seeds_won"] == 2     # a tie is not a win


def test_a_tie_of_fractions_is_no_win():
    """Means over radii: these sum to zero, and in floating point to a little more."""
    tie = np.array([0.1, 0.2, -0.3])
    assert tie.mean() > 0
    assert paired_difference([tie, tie, -tie], True)["seeds_won"] == 0
    assert paired_difference([tie + 1e-6, tie, -tie], True)["seeds_won"] == 1


def test_where_only_seeds_differ_it_is_the_t_interval_of_their_means():
    """Means 0, 0.1, 0.2: t of 2 degrees is 4.303, standard error 0.1 / sqrt(3)."""
    d = [np.zeros(1000), np.full(1000, 0.1), np.full(1000, 0.2)]
    result = paired_difference(d, shared=True)
    assert (result["low"], result["high"]) == pytest.approx((0.1 - 0.2484, 0.1 + 0.2484), abs=1e-3)
    assert result["p"] == pytest.approx(0.2254, abs=1e-3)


@pytest.mark.parametrize("seeds", [1, 3])
def test_where_seeds_agree_it_is_the_interval_of_a_mean_over_images(seeds):
    row = np.arange(1600) % 2
    result = paired_difference([row] * seeds, shared=True)
    assert result["high"] - result["low"] == pytest.approx(2 * 1.96 * 0.5 / 40, rel=0.01)


def test_what_seeds_and_images_add_is_summed():
    """Images are half a point apart, each alike in every seed, and seeds a tenth."""
    images, seeds = np.tile([-0.5, 0.5], 50), np.array([0, 0.1, 0.2])
    found = paired_difference([seed + images for seed in seeds], shared=True)
    expected = seeds.var(ddof=1) / 3 + images.var(ddof=1) / 100
    assert found["standard_error"] == pytest.approx(np.sqrt(expected))


def test_what_an_image_is_worth_in_every_seed_is_not_averaged_away():
    """Where seeds have the same mean, the interval is the t interval of the images' means."""
    rng = np.random.default_rng(3)
    d = rng.normal(size=60) + rng.normal(size=(3, 60))
    d += 0.1 - d.mean(1, keepdims=True)
    found, theirs = paired_difference(list(d), True), ttest_1samp(d.mean(0), 0)
    interval = theirs.confidence_interval()
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))


def test_a_difference_without_any_spread_is_certain():
    assert paired_difference([np.ones(80)] * 3, shared=True)["p"] == 0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])


# Within a margin

FIVE = [0.4, -0.1, 0.3, 0.2, 0.5]       # mean 0.26, standard error 0.1030, four degrees


def p_of(values, margin):
    return margin_p(np.mean(values), margin, np.std(values, ddof=1) / np.sqrt(len(values)),
                    len(values) - 1)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("margin", [0.3, 0.5, 1.0])
def test_within_a_margin_p_is_the_larger_of_two_one_sided_tests(margin, sign):
    values = sign * np.array(FIVE)
    above = ttest_1samp(values, -margin, alternative="greater").pvalue
    below = ttest_1samp(values, margin, alternative="less").pvalue
    assert p_of(values, margin) == pytest.approx(max(above, below), rel=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_beyond_a_margin_p_is_that_of_the_bound_that_was_passed(sign):
    values = sign * np.array(FIVE)
    expected = ttest_1samp(values, sign * 0.1).pvalue
    assert p_of(values, 0.1) == pytest.approx(expected, rel=1e-9)


def test_at_a_margin_neither_side_is_found_more_often_than_the_level_says():
    drawn = np.random.default_rng(8).normal(1.0, 1.0, (4000, 5))
    found = np.array([p_of(values, 1.0) < 0.05 for values in drawn])
    within = np.abs(drawn.mean(1)) < 1
    # Shares of 4,000 are known to 0.0035 (one sigma).
    assert 0.03 < np.mean(found & within) < 0.06 and np.mean(found & ~within) < 0.035


@pytest.mark.parametrize(("difference", "p"), [(0.0, 0), (0.5, 0), (1.0, 1), (-1.5, 0)])
def test_without_variance_a_margin_is_kept_or_passed_for_certain(difference, p):
    assert margin_p(difference, 1.0, 0.0, 1.0) == p


@pytest.mark.parametrize("shared", [True, False])
def test_a_test_on_the_standard_error_is_as_cautious_as_the_interval_and_p(shared):
    for seed in range(20):
        d = differences(3, 80, np.random.default_rng(seed), shared, spread=0.1 * (seed % 2))
        found = paired_difference(d, shared)
        error, freedom = found["standard_error"], found["degrees_of_freedom"]
        bound = abs(found["difference"]) + (found["high"] - found["low"]) / 2
        assert margin_p(found["difference"], bound, error, freedom) >= 0.025 - 1e-9
        p = margin_p(found["difference"], 0.0, error, freedom)
        assert p >= min(found["p"], 0.5) - 1e-9


# AUC

def scored(rng, n, shift):
    abnormal = rng.random(n) < 0.3
    score = np.round(rng.normal(size=n) - shift * abnormal, 1)      # rounded: ties
    return Case(abnormal, score, np.arange(n))


def test_weighted_auc_is_that_of_scikit_learn_on_repeated_images():
    rng = np.random.default_rng(0)
    abnormal, score, _ = scored(rng, 200, 1.0)
    weights = rng.integers(0, 4, 200)
    expected = roc_auc_score(np.repeat(abnormal, weights), -np.repeat(score, weights))
    assert weighted_auc(abnormal, score, weights) == pytest.approx(expected)


def two_models(rng, seeds, n, shared, spread):
    """Cases of two models that score images much alike, the wrong ones lower, more so by seed."""
    def model(shift):
        cases = []
        for wrong, common in images:
            noise, lower = rng.normal(size=n), shift + spread * rng.normal()
            score = common + 0.5 * noise - lower * wrong
            cases.append(Case(wrong, score, np.arange(n)))
        return cases

    images = [(rng.random(n) < 0.4, rng.normal(size=n)) for _ in range(1 if shared else seeds)]
    images = images * seeds if shared else images
    return model(1.2), model(0.8)


def true_gain(spread):
    return np.subtract(*(ndtr(shift / np.sqrt(2 * 1.25 + spread**2)) for shift in (1.2, 0.8)))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_auc_intervals_cover_the_truth(shared, spread):
    rng, results = np.random.default_rng(3), []
    for repetition in range(200):
        a, b = two_models(rng, 4, 120, shared, spread)
        results.append(auc_difference(a, b, shared, 40, repetition))
    covered = np.mean([r["low"] <= true_gain(spread) <= r["high"] for r in results])
    assert 0.91 < covered < (0.985 if spread else 0.9999)       # a share of 200 is known to 0.015
    widths = [r["high"] - r["low"] for r in results]
    assert np.median(widths) < 8 * np.std([r["difference"] for r in results])


def test_the_standard_error_of_one_seed_is_the_spread_of_fresh_images():
    """A bootstrap that broke the pairing of the two models would be half as wide again."""
    rng, gains, errors = np.random.default_rng(5), [], []
    for repetition in range(300):
        a, b = two_models(rng, 1, 200, True, 0.0)
        found = auc_difference(a, b, True, 40, repetition)
        gains.append(found["difference"])
        errors.append((found["high"] - found["low"]) / 2 / 1.97)
    assert np.mean(gains) == pytest.approx(true_gain(0.0), abs=0.01)
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.12)


def test_scores_of_one_image_are_drawn_together():
    """Each image twice, with its clean score and its adversarial one: as many images, not twice."""
    rng, gains, errors = np.random.default_rng(7), [], []
    for repetition in range(300):
        common = rng.normal(size=100)
        both = np.concatenate([common, common])
        a, b = (Case(np.repeat([False, True], 100), both + spread * rng.normal(size=200),
                     np.tile(np.arange(100), 2)) for spread in (0.5, 1.0))
        found = auc_difference([a], [b], True, 40, repetition)
        gains.append(found["difference"])
        errors.append(found["standard_error"])
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.12)


def test_images_that_are_worth_as_much_in_every_seed_count_once():
    """One model's scores hang on the image, alike in four seeds; the other's are noise."""
    rng, n, gains, errors = np.random.default_rng(11), 150, [], []
    for repetition in range(150):
        wrong, own = rng.random(n) < 0.4, rng.normal(size=n)
        a, b = ([Case(wrong, k * own + 0.05 * rng.normal(size=n) - wrong, np.arange(n))
                 for _ in range(4)] for k in (1.0, 0.0))
        found = auc_difference(a, b, True, 40, repetition)
        gains.append(found["difference"])
        errors.append(found["standard_error"])
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.2)


def test_seeds_may_lack_images_that_others_have():
    """Of images that fool one network and not the other, each seed has its own."""
    rng = np.random.default_rng(2)
    cases = [scored(rng, n, 1.0) for n in (40, 60)]
    assert auc_difference(cases, cases, True, 20, 0)["difference"] == 0


def test_a_clear_gain_in_auc_is_resolved():
    rng = np.random.default_rng(4)
    a, b = ([scored(rng, 2000, shift) for _ in range(3)] for shift in (2.0, 0.5))
    result = auc_difference(a, b, True, 50, 0)
    assert result["low"] > 0.1 and result["p"] < 0.01 and result["seeds_won"] == 3


def test_folds_of_unequal_size_are_each_resampled_by_themselves():
    rng = np.random.default_rng(6)
    a, b = ([scored(rng, n, shift) for n in (300, 299)] for shift in (1.5, 0.5))
    found, gains = auc_difference(a, b, False, 50, 0), []
    for ahead, behind in zip(a, b, strict=True):
        gains.append(roc_auc_score(ahead.abnormal, -ahead.score)
                     - roc_auc_score(behind.abnormal, -behind.score))
    assert found["difference"] == pytest.approx(np.mean(gains))
    assert found["low"] < found["difference"] < found["high"]


def test_against_chance_it_is_the_area_minus_a_half():
    rng = np.random.default_rng(3)
    a = [scored(rng, 300, 1.0) for _ in range(3)]
    chance = [case._replace(score=np.zeros(300)) for case in a]
    found = auc_difference(a, chance, True, 50, 0)
    expected = np.mean([roc_auc_score(case.abnormal, -case.score) for case in a]) - 0.5
    assert found["difference"] == pytest.approx(expected) and found["low"] > 0
