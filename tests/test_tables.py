"""Every table by hand: accuracies, differences, attacks of all kinds, signs, AUC, and the pairs."""

from dataclasses import replace
from math import inf, isnan, nan
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tla.outcomes import outcome_columns
from tla.params import UserError
from tla.report import detection, tables
from tla.report.pairs import compared, compared_auc, headlined, pools
from tla.report.signs import SIGNS, exceeds, masking_line, signs
from tla.report.statistics import paired_difference, wilson
from tla.train.methods import METHODS, parse_model

# Two seeds share the images 10 and 11; image 12 is seed 1's alone.
ROWS = pd.DataFrame(
    [[0, 10, 3, 3, 1, 1, 1, 1, 1, 0.1],
     [0, 11, 4, 4, 1, 0, 1, 1, 1, 0.1],
     [1, 10, 3, 3, 1, 1, 1, 0, 0, 0.1],
     [1, 11, 4, 5, 0, 0, 0, 0, 1, 0.1],
     [1, 12, 5, 5, 1, 1, 1, 1, 1, 0.1]],
    columns=["seed", "idx", "label", "clean_pred", "clean", "pgd_20_worst", "pgd_20_last",
             "cw_worst", "cw_last", "cw_linf"])


# Accuracy: the mean over images of the mean over seeds

def accuracy(rows):
    """The lines of the accuracy table by outcome."""
    return {line["outcome"]: line for line in tables.accuracy_lines(rows)}


@pytest.mark.parametrize(("outcome", "per_image", "per_seed"), [
    ("clean", [1, 1 / 2, 1], [1, 2 / 3]), ("pgd_20_worst", [1, 0, 1], [1 / 2, 2 / 3]),
    ("pgd_20_last", [1, 1 / 2, 1], [1, 2 / 3]), ("cw_worst", [1 / 2, 1 / 2, 1], [1, 1 / 3]),
    ("cw_last", [1 / 2, 1, 1], [1, 2 / 3])])
def test_accuracy_by_hand(outcome, per_image, per_seed):
    found = accuracy(ROWS)[outcome]
    assert found["accuracy"] == pytest.approx(np.mean(per_image))
    assert found["std"] == pytest.approx(np.std(per_seed, ddof=1))
    assert (found["images"], found["seeds"]) == (3, 2)


def test_the_table_has_a_line_an_outcome_and_none_for_other_columns():
    assert list(accuracy(ROWS)) == ["clean", "pgd_20_worst", "pgd_20_last", "cw_worst", "cw_last"]


def test_the_interval_is_wilsons_of_the_different_images():
    """2 of 3 images: centre (2 + z^2 / 2) / (3 + z^2) with z = 1.96."""
    found = accuracy(ROWS)["pgd_20_worst"]
    assert (found["low"], found["high"]) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    assert (found["low"], found["high"]) == wilson(2 / 3, 3)


def test_an_attack_counts_on_the_images_it_was_run_on():
    found = accuracy(ROWS.assign(cw_worst=[1, None, 0, None, 1], square_worst=None))
    line = found["cw_worst"]
    assert (line["accuracy"], line["images"]) == (pytest.approx((1 / 2 + 1) / 2), 2)
    assert (line["low"], line["high"]) == wilson(3 / 4, 2)
    assert found["pgd_20_worst"]["images"] == 3 and "square_worst" not in found


def test_one_seed_has_no_spread():
    for rows in (ROWS[ROWS.seed == 0], ROWS.assign(clean=[1, 0, None, None, None])):
        line = accuracy(rows)["clean"]
        assert isnan(line["std"]) and (line["seeds"], line["images"]) == (1, 2)


def test_tables_have_the_model_in_front():
    found = tables.by_model({"at": ROWS, "um": ROWS.assign(clean=0)}, tables.accuracy_lines)
    assert list(found)[0] == "model" and found.model.tolist() == ["at"] * 5 + ["um"] * 5
    assert found.accuracy[5] == 0


# Differences

A = pd.DataFrame({"seed": [0, 0, 0, 1, 1, 1], "idx": [0, 1, 2] * 2, "clean": [1, 1, 1, 1, 0, 1],
                  "cw_worst": [1, 0, None, 1, 1, 1], "fgsm_last": 1})
B = A.assign(clean=[0, 1, 1, 0, 1, 1], cw_worst=[1, 1, 0, 0, None, 1]).drop(columns="fgsm_last")


def test_a_difference_is_paired_over_the_images_that_both_saw():
    found = tables.differences({"a": A, "b": B}, [("a", "b")], shared=False)
    assert found.outcome.tolist() == ["clean", "cw_worst"]     # b knows no fgsm_last
    clean, cw = found.to_dict("records")
    by_hand = paired_difference([np.array([1, 0, 0]), np.array([1, -1, 0])], False)
    assert {name: clean[name] for name in by_hand} == by_hand
    assert clean["difference"] == pytest.approx(1 / 6)
    assert (clean["images"], clean["seeds"]) == (3, 2)
    # Image 2 of seed 0 and image 1 of seed 1 were seen by one of the two.
    by_hand = paired_difference([np.array([0, -1]), np.array([1, 0])], False)
    assert {name: cw[name] for name in by_hand} == by_hand
    assert (cw["difference"], cw["images"], cw["seeds"]) == (0, 3, 2)


def test_rows_of_other_images_are_refused():
    with pytest.raises(ValueError, match="are not of the same images"):
        tables.differences({"a": A, "b": B.assign(idx=[0, 1, 3] * 2)}, [("a", "b")], False)


def test_seeds_that_should_share_their_images_and_do_not_are_refused():
    both = {"a": A[["seed", "idx", "clean"]], "b": B[["seed", "idx", "clean"]]}
    assert len(tables.differences(both, [("a", "b")], shared=True)) == 1
    apart = {name: rows.assign(idx=range(6)) for name, rows in both.items()}
    assert len(tables.differences(apart, [("a", "b")], shared=False)) == 1
    with pytest.raises(ValueError, match="different images of different seeds"):
        tables.differences(apart, [("a", "b")], shared=True)


def test_neighbours_are_an_outcome_where_they_were_looked_for():
    neighbors = pd.DataFrame({"seed": [1, 1], "idx": [12, 10], "label": [5, 3], "adv_knn": [5, 4]})
    outcomes = ROWS[["seed", "idx", *outcome_columns(ROWS)]]
    found = tables.with_retrieved(outcomes, neighbors, "knn", "adv_knn")
    assert found.knn.isna().tolist() == [True, True, False, True, False]
    assert (found.knn[2], found.knn[4]) == (0, 1)
    assert tables.with_retrieved(outcomes, None, "knn", "adv_knn") is outcomes


# Which models are set against which

def test_every_model_is_in_some_pair_and_no_pair_stands_twice(params):
    found = compared(params)
    assert {name for pair in found for name in pair} == set(params.models)
    assert len(set(found)) == len(found)
    assert all(model != baseline for model, baseline in found)


def test_pairs_are_the_baselines_of_the_methods_and_pools_against_each_other(params):
    expected = set()
    for name in params.models:
        for baseline in METHODS[parse_model(name, params).method].BASELINES:
            expected |= {(name, baseline)} if baseline in params.models else set()
    swept = ["tla-b1", "tla-b30", "tla-b100", "tla-b1000"]
    assert list(pools(params)) == ["tla-b1", "tla-b30", "tla-b100", "tla", "tla-b1000"]
    expected |= {("tla", name) for name in swept}               # what the choice is worth
    expected |= {(name, "tla-b1") for name in swept[1:]}        # what mining is worth
    expected |= {("tla-b1000", "tla")}                          # the largest, the next smaller
    expected |= {("tla", "um")}                                 # the paper's retrieval
    assert set(compared(params)) == expected


def test_the_pairs_of_tla_come_first(params):
    models = [model for model, _ in compared(params)]
    assert set(models[:models.count("tla")]) == {"tla"} and models.count("tla") > 5


def test_without_the_random_negative_pools_are_set_against_tla_alone(make_params):
    params = make_params({"models": ["um", "at", "alp", "trades", "tla-b30", "tla-b100", "tla"]})
    among = [pair for pair in compared(params) if pair[1].startswith("tla-b")]
    assert among == [("tla", "tla-b30"), ("tla", "tla-b100")]


def test_a_model_without_a_partner_is_refused_by_name(params):
    alone = SimpleNamespace(models=["um", "alp", "tla"], methods=params.methods,
                            mining=params.mining, config="params.yaml")
    with pytest.raises(UserError, match="^params.yaml: models: um is compared with no other"):
        compared(alone)


def test_the_report_shows_other_pools_than_tla_and_tla_rn_only_against_pools(params):
    hidden = [pair for pair in compared(params) if not headlined(params, pair)]
    assert ("tla-b30", "at") in hidden and ("tla-b100", "alp") in hidden
    for pair in (("tla", "at"), ("tla-b1", "at"), ("tla-b30", "tla-b1"), ("tla-b1000", "tla"),
                 ("at", "um"), ("tla", "tla-b30"), ("tla-sa", "at")):
        assert headlined(params, pair), pair


def test_areas_are_those_of_tla_against_every_other_model_and_of_um_against_chance(params):
    assert compared_auc(params) == [
        ("tla", "um"), ("tla", "at"), ("tla", "alp"), ("tla", "trades"), ("um", "chance")]


# AutoAttack, transfer and queries

def test_the_line_of_autoattack_is_of_the_images_it_saw():
    """Image 12 of seed 0 and both of seed 1 were seen; each seed complains of `dynamic`."""
    rows = pd.DataFrame({
        "seed": [0, 0, 1, 1], "idx": [11, 12, 21, 22], "clean": [0, 1, 1, 1],
        "autoattack_apgd-ce_worst": [nan, 1, 1, 0], "autoattack_worst": [nan, 0, 1, 0],
        "complaint_random": [nan, 0, 0, 0], "complaint_dynamic": [nan, 1, 1, 1],
        "complaint_square": [nan, 0, 1, 1]})
    (line,) = tables.autoattack_line(rows)
    low, high = wilson(1 / 3, 3)
    assert line == pytest.approx({
        "clean": 1.0, "autoattack_apgd-ce_worst": 2 / 3, "autoattack_worst": 1 / 3, "low": low,
        "high": high, "std": np.std([0, 1 / 2], ddof=1), "images": 3, "seeds": 2,
        "complaint_random": 0, "complaint_dynamic": 2, "complaint_square": 1})


TRANSFER = pd.DataFrame({
    "source": ["um"] * 3 + ["at"] * 3, "idx": [0, 1, 2] * 2, "label": [3, 4, 5] * 2,
    "pred_um": [3, 0, 0, 3, 4, 0], "pred_at": [3, 4, 0, 3, 0, 0]})


def test_the_transfer_matrix_has_sources_in_lines_and_judges_in_columns():
    matrix = tables.transfer_matrix(TRANSFER, ["um", "at"])
    assert matrix.source.tolist() == ["um", "at"]
    assert matrix.um.tolist() == pytest.approx([1 / 3, 2 / 3])
    assert matrix["at"].tolist() == pytest.approx([2 / 3, 1 / 3])


def test_an_image_withstands_transfer_where_no_source_its_own_among_them_breaks_it():
    assert tables.withstood(TRANSFER, "at").to_dict() == {0: 1, 1: 0, 2: 0}
    assert tables.withstood(TRANSFER, "um").to_dict() == {0: 1, 1: 0, 2: 0}
    own_only = TRANSFER.assign(pred_at=[3, 4, 5, 3, 0, 5])
    assert tables.withstood(own_only, "at").to_dict() == {0: 1, 1: 0, 2: 1}


def test_accuracies_without_gradients_by_hand():
    """A change of eps is within reach; an image that nothing broke needs an infinite one."""
    matrix = pd.DataFrame({"source": ["um", "at", "alp"], "um": [0.1, 0.2, 0.3],
                           "at": [0.8, 0.5, 0.7]})
    suite = pd.DataFrame({"idx": [7, 8, 9, 7, 5], "square_worst": [1, 1, 1, 0, nan]})
    masking = pd.DataFrame({"hop_skip_distance": [0.15, 0.2, inf, nan, nan],
                            "hop_skip_queries": [9, 10, 11, nan, nan]})
    assert tables.queries_line("at", matrix, suite, masking, 0.15) == pytest.approx({
        "model": "at", "transfer": 0.7, "grey_box": 0.5, "square": 3 / 4, "square_images": 3,
        "hop_skip": 2 / 3, "hop_skip_queries": 10, "hop_skip_images": 3})


# Textbook attacks and label leaking

def test_the_line_of_the_textbook_attacks_by_hand():
    """The last image is wrong without an attack: none succeeds on it, whatever class it is given.
    """
    rows = pd.DataFrame({
        "label": 1, "chosen": 2, "least_likely": 5, "clean_pred": [1, 1, 1, 1, 2],
        "domain_pred": [1, 0, 0, 0, 1], "domain_linf": [0.1, 0.2, 0.3, 0.4, 0.5],
        "chosen_one_step_pred": [2, 5, 5, 1, 2], "chosen_iterative_pred": [2, 2, 2, 5, 2],
        "least_likely_one_step_pred": [2, 2, 2, 1, 5],
        "least_likely_iterative_pred": [5, 5, 2, 2, 5],
        "smallest_linf": [0.1, 0.3, inf, inf, 0.2], "smallest_l2": [1.0, inf, inf, inf, 2.0]})
    (line,) = tables.textbook_line(rows)
    assert line == pytest.approx({
        "domain_accuracy": 2 / 5, "domain_linf": 0.3, "chosen_one_step_success": 1 / 4,
        "chosen_iterative_success": 3 / 4, "least_likely_one_step_success": 0,
        "least_likely_iterative_success": 1 / 2, "smallest_linf_median": 0.3,
        "smallest_linf_reached": 3 / 5, "smallest_l2_median": inf, "smallest_l2_reached": 2 / 5})


def test_labels_leak_where_fgsm_is_more_accurate_than_no_attack_in_either_part():
    rows = pd.DataFrame({
        "part": ["train"] * 4 + ["test"] * 2, "label": 1, "clean_pred": [1, 1, 1, 0, 1, 0],
        "fgsm_0.5_pred": [1, 1, 1, 1, 1, 0], "fgsm_2_pred": [1, 0, 0, 0, 1, 1]})
    found = pd.DataFrame(tables.leaking_lines(rows, 0.1))
    assert found.part.tolist() == ["train", "train", "test", "test"]
    assert found.eps.tolist() == pytest.approx([0.05, 0.2] * 2)
    assert found.clean.tolist() == [3 / 4, 3 / 4, 1 / 2, 1 / 2]
    assert found.fgsm.tolist() == [1, 1 / 4, 1 / 2, 1]
    assert found.exceeds.tolist() == [True, False, False, True]    # equal is not more


# Signs of gradient masking

def test_signs_by_hand():
    """Differences count the images that both attacks saw; a rise is between neighbouring eps."""
    suite = pd.DataFrame({
        "pgd_9_worst": [1, 1, 1, 0], "pgd-restarts_worst": [1, 0, 0, 0],
        "cw_worst": [1, 1, nan, 0], "white-box": [1, 0, 0, 0], "square_worst": [0, 0, nan, 0],
        "autoattack_worst": [0, 0, nan, nan]}, index=[7, 8, 9, 10])
    masking = pd.DataFrame({
        "idx": [7, 8, 9, 10], "zero_gradient": [1.0, 0.5, 0.25, 0.25], "eps_0.1": [1, 1, 1, 0],
        "eps_0.2": [1, 0, 0, 0], "eps_0.4": [1, 1, 0, 0], "eps_1": [1, 0, 0, 0]})
    found = signs(suite, masking, pd.Series([1.0, 1.0], index=[10, 7]), "pgd_9_worst")
    assert set(found) == set(SIGNS)
    assert found == pytest.approx({
        "rise": 1 / 4, "unbounded": 1 / 4, "transfer": -1 / 2, "square": 2 / 3, "restarts": 1 / 2,
        "cw": 0, "zero_gradient": 1 / 4, "autoattack": 1 / 2})
    line = masking_line(suite, masking, pd.Series([1.0], index=[7]), "pgd_9_worst", 0.1)
    assert line["zero_pixels"] == 1 / 2


def test_what_two_attacks_differ_by_is_of_every_seed_that_both_saw():
    """The last seed was not asked by Square; images made on other models are of one seed alone."""
    index = pd.MultiIndex.from_product([[0, 1, 2], [7, 8]], names=["seed", "idx"])
    suite = pd.DataFrame({"pgd_9_worst": 1.0, "square_worst": [0, 1, 1, 0, nan, nan],
                          "pgd-restarts_worst": [0, 1, 1, 1, 1, 1], "cw_worst": 1.0,
                          "white-box": 1.0, "autoattack_worst": 1.0}, index=index)
    masking = pd.DataFrame({"zero_gradient": [0.0], "eps_0.1": 0.0, "eps_1": 0.0})
    others = pd.concat({1: pd.Series([0.0, 1.0], index=[7, 8])}, names=["seed"])
    found = signs(suite, masking, others, "pgd_9_worst")
    assert (found["square"], found["restarts"], found["transfer"]) == pytest.approx(
        (1 / 2, 1 / 6, 1 / 2))


def evidence():
    """Rows about one model: every attack breaks the images 0 and 1 of twenty."""
    left = [0.0, 0.0] + [1.0] * 18
    attacks = ("pgd_9_worst", "pgd-restarts_worst", "cw_worst", "square_worst",
               "autoattack_worst", "white-box")
    return {"suite": pd.DataFrame({name: left for name in attacks}),
            "masking": pd.DataFrame({"zero_gradient": [0.5] * 20, "eps_0.1": 0.0, "eps_0.2": 0.0,
                                     "eps_1": 0.0}),
            "transfer": pd.DataFrame({"transfer": left})}


def flags(found, tolerance):
    """The signs that are flagged."""
    transfer = found["transfer"]["transfer"]
    line = masking_line(found["suite"], found["masking"], transfer, "pgd_9_worst", tolerance)
    return {name for name in SIGNS if line[f"flag_{name}"]}


# Which cells make the sign where they speak for it on some images: rows, columns, value.
MADE_BY = {
    "rise": ("masking", ["eps_0.2"], 1), "unbounded": ("masking", ["eps_0.1", "eps_0.2", "eps_1"],
                                                       1),
    "transfer": ("transfer", ["transfer"], 0), "square": ("suite", ["square_worst"], 0),
    "restarts": ("suite", ["pgd-restarts_worst"], 0), "cw": ("suite", ["cw_worst"], 0),
    "zero_gradient": ("masking", ["zero_gradient"], 1),
    "autoattack": ("suite", ["autoattack_worst"], 0)}


@pytest.mark.parametrize(("images", "tolerance", "flagged"), [
    (1, 0.05, False), (2, 0.05, True), (2, 0.1, False), (3, 0.1, True)])
@pytest.mark.parametrize("sign", SIGNS)
def test_a_sign_is_flagged_where_it_exceeds_the_tolerance(sign, images, tolerance, flagged):
    found, (rows, columns, value) = evidence(), MADE_BY[sign]
    found[rows].loc[range(5, 5 + images), columns] = value
    assert flags(found, tolerance) == ({sign} if flagged else set())


def test_a_rise_of_exactly_the_tolerance_is_not_flagged():
    assert 4 / 20 - 3 / 20 > 0.05      # in floating point
    found = evidence()
    found["masking"].loc[range(3), "eps_0.1"] = 1
    found["masking"].loc[range(4), "eps_0.2"] = 1
    assert flags(found, 0.05) == set()


@pytest.mark.parametrize(("value", "flagged"), [
    (0.05, False), (4 / 20 - 3 / 20, False), (0.050001, True), (-1.0, False), (nan, True)])
def test_a_sign_exceeds_before_it_is_rounded(value, flagged):
    assert exceeds(value, 0.05) == flagged


@pytest.mark.parametrize(("sign", "column"), [
    ("square", "square_worst"), ("restarts", "pgd-restarts_worst"), ("cw", "cw_worst"),
    ("autoattack", "autoattack_worst")])
def test_a_sign_of_an_attack_without_images_is_flagged(sign, column):
    found = evidence()
    found["suite"][column] = nan
    assert flags(found, 0.05) == {sign}


def test_a_sign_without_images_in_common_is_flagged():
    found = evidence()
    found["transfer"].index += 1000
    assert flags(found, 0.05) == {"transfer"}


# AUC

def detect_rows(seed, label, clean, adv, clean_score, adv_score):
    found = {"seed": seed, "eps_factor": 1.0, "idx": range(len(label)), "label": label,
             "clean_pred": clean, "adv_pred": adv}
    for name in detection.SCORES:
        found |= {f"clean_{name}": clean_score, f"adv_{name}": adv_score}
    return pd.DataFrame(found)


TABLE = detect_rows(0, [0, 0, 1, 1], [0, 0, 1, 0], [0, 1, 0, 1], [0.9, 0.8, 0.7, 0.6],
                    [0.5, 0.4, 0.3, 0.35])


def test_auc_counts_ordered_pairs():
    rng = np.random.default_rng(0)
    score, abnormal = rng.integers(0, 5, 40).astype(float), rng.random(40) < 0.4
    pairs = [(a < n) + 0.5 * (a == n) for a in score[abnormal] for n in score[~abnormal]]
    assert detection.auc(abnormal, score) == pytest.approx(np.mean(pairs))


def test_misclassified_sets_wrong_against_right_adversarial_images():
    found = detection.case(TABLE, "misclassified", "softmax")
    assert found.abnormal.tolist() == [False, True, True, False]
    assert found.score.tolist() == [0.5, 0.4, 0.3, 0.35]
    assert found.image.tolist() == [0, 1, 2, 3]


def test_adversarial_sets_fooling_images_against_clean_correct_ones():
    """The last image was wrong before the attack, so it counts on neither side."""
    rows = TABLE.assign(adv_pred=[0, 1, 0, 0])
    found = detection.case(rows, "adversarial", "softmax")
    assert found.abnormal.tolist() == [False] * 3 + [True] * 2
    assert found.score.tolist() == [0.9, 0.8, 0.7, 0.4, 0.3]
    assert found.image.tolist() == [0, 1, 2, 1, 2]


def areas(rows, least):
    """AUC by task, and the number of seeds, of the first score."""
    lines = pd.DataFrame(detection.auc_lines(rows, least))
    return lines[lines.score == "softmax"].set_index("task")


def test_the_auc_table_by_hand():
    """0.4 and 0.3 against 0.5 and 0.35: three of four pairs are in order."""
    found = areas(TABLE, 2)
    assert found.auc.to_dict() == {"misclassified": 3 / 4, "adversarial": 1}
    assert found.seeds.tolist() == [1, 1] and found["std"].isna().all()
    lines = list(detection.auc_lines(pd.concat([TABLE, TABLE.assign(eps_factor=1.5)]), 2))
    about = [(line["task"], line["score"], line["eps_factor"]) for line in lines]
    assert len(set(about)) == len(about) == 2 * 3 * 2


def test_auc_is_averaged_over_seeds_and_never_pooled():
    """Each seed separates perfectly on a scale of its own; pooled scores would not."""
    scores = [name for name in TABLE if name.startswith(("clean_", "adv_")) and name[-4:] != "pred"]
    other = TABLE.assign(seed=1)
    other[scores] -= 10
    found = areas(pd.concat([TABLE, other]), 2)
    assert found.auc["adversarial"] == 1 and found.seeds["adversarial"] == 2
    assert found["std"]["adversarial"] == 0


@pytest.mark.parametrize(("least", "defined"), [(2, True), (3, False)])
def test_an_area_of_a_few_images_is_undefined_and_has_no_curve(least, defined):
    """Two of either kind; other seeds cannot make up for one that has too few."""
    rich = pd.concat([TABLE] * 2, ignore_index=True).assign(seed=1)
    rows = pd.concat([rich, TABLE])
    line = areas(rows, least).loc["misclassified"]
    assert isnan(line.auc) != defined and line.seeds == (2 if defined else 0)
    curves = pd.DataFrame(detection.roc_lines(rows, least), columns=["task", "score", "fpr"])
    assert ("misclassified" in set(curves.task)) == defined


def test_a_model_that_is_never_wrong_has_an_undefined_area_not_an_error():
    assert areas(TABLE.assign(adv_pred=TABLE.label), 1).auc.isna().all()


@pytest.mark.parametrize("adv_pred", [[1, 1, 0, 1], [0, 0, 1, 0]])
def test_too_few_right_images_are_as_undefined_as_too_few_wrong_ones(adv_pred):
    found = areas(TABLE.assign(adv_pred=adv_pred), 2)
    assert isnan(found.auc["misclassified"])
    assert not isnan(areas(TABLE.assign(adv_pred=adv_pred), 1).auc["misclassified"])


def test_roc_of_a_perfect_score_is_one_everywhere_but_at_zero():
    abnormal, score = np.array([True, True, False, False]), np.array([0.1, 0.2, 0.8, 0.9])
    assert (detection.roc_on_grid(abnormal, score)[1:] == 1).all()


def test_roc_curves_are_averaged_over_seeds_at_fixed_rates():
    """One seed ranks perfectly, the other exactly the wrong way round."""
    good = detect_rows(0, [0, 0], [0, 0], [0, 1], [0.9, 0.8], [0.5, 0.4])
    bad = detect_rows(1, [0, 0], [0, 0], [0, 1], [0.9, 0.8], [0.4, 0.5])
    lines = pd.DataFrame(detection.roc_lines(pd.concat([good, bad]), 1))
    curve = lines[(lines.task == "misclassified") & (lines.score == "mixture")]
    assert curve.fpr.tolist() == pytest.approx(np.linspace(0, 1, 41))
    # Up at once in one seed; in the other flat until its last point, where it rises to 1.
    assert curve.tpr.iloc[20] == 0.5 and curve.tpr.iloc[-1] == 1


def known(rows):
    """The same images as of an attacker who knows the score."""
    for score in detection.SCORES:
        rows = rows.assign(**{f"aware_{score}_pred": rows.adv_pred,
                              f"aware_{score}": rows[f"adv_{score}"]})
    return rows


def test_differences_of_auc_have_a_line_where_they_are_undefined(params):
    factors = params.detect.eps_factors
    wrong, right = TABLE.iloc[[1, 2]], TABLE.iloc[[0, 3]]
    many = pd.concat([wrong] * 10 + [right] * 10).assign(idx=range(40))
    rows = pd.concat([many.assign(eps_factor=factor, seed=seed) for factor in factors
                      for seed in (0, 1)])
    few = replace(params, compare=replace(params.compare, resamples=20))
    assert few.compare.least == 20      # as many as each kind has in a seed
    pairs = [("tla", "at"), ("at", "tla"), ("um", "chance")]
    made = {"tla": rows, "at": rows.assign(adv_pred=rows.label), "um": rows}
    aware = {model: known(part) for model, part in made.items()}
    found = detection.auc_differences(made, aware, pairs, few)
    assert list(found) == detection.AUC_COLUMNS
    found = found[~found.score.str.endswith("-aware")]
    assert len(found) == 2 * len(factors) * len(pairs) * len(detection.SCORES)
    fooling = found.score.str.endswith("-fooling")
    assert fooling.sum() == len(found) / 2
    # Clean images, also of those that are right under attack, score above all that fool.
    of_chance = found[fooling & (found.baseline == "chance")]
    assert of_chance.difference.tolist() == pytest.approx([1 - 1 / 2] * len(of_chance))
    found = found[~fooling]
    nothing = found[(found.baseline == "at") | (found.model == "at")]       # it is never wrong
    assert len(nothing) == 2 * len(factors) * len(detection.SCORES)
    assert nothing[["difference", "low", "high", "p", "seeds_won"]].isna().all(axis=None)
    assert set(nothing.images) == {40} and set(nothing.seeds) == {2}
    chance = found[found.baseline == "chance"]
    assert chance.difference.tolist() == pytest.approx([3 / 4 - 1 / 2] * len(chance))
    assert (chance.low < chance.difference).all() and set(chance.seeds_won) == {2}


# Images from elsewhere, and retrieval

def test_test_images_are_told_from_each_source_by_itself_and_by_seed():
    """Higher scores are nearer to the data; scores of different seeds are not compared."""
    rows = pd.DataFrame({
        "seed": [0] * 5 + [1] * 3, "source": ["test", "test", "noise", "noise", "photos", "test",
                                              "noise", "photos"],
        "softmax": [0.9, 0.5, 0.6, 0.1, 0.95, -9, -10, -8]})
    rows = rows.assign(neighbors=-rows.softmax, mixture=0)
    found = pd.DataFrame(tables.ood_lines(rows, ["noise", "photos"]))
    assert found.source.tolist() == ["noise"] * 3 + ["photos"] * 3
    assert found.score.tolist() == ["softmax", "neighbors", "mixture"] * 2
    of_noise = (3 / 4 + 1) / 2
    assert found.auc.tolist() == pytest.approx([of_noise, 1 - of_noise, 0.5, 0, 1, 0.5])
    assert found["std"][0] == pytest.approx(np.std([3 / 4, 1], ddof=1))
    assert set(found.seeds) == {2}


def test_the_line_of_retrieval_by_hand():
    rows = pd.DataFrame({
        "seed": [0, 0, 1, 1], "idx": [5, 6, 5, 6], "label": [1, 2, 1, 2],
        "clean_knn": [1, 2, 1, 0], "adv_knn": [0, 2, 0, 0],
        "clean_precision": [1, 1, 0.5, 0.5], "adv_precision": [0, 1, 0, 0]})
    (line,) = tables.retrieval_line(rows)
    assert line == {"clean_knn_accuracy": 3 / 4, "clean_precision": 3 / 4,
                    "adv_knn_accuracy": 1 / 4, "adv_precision": 1 / 4, "images": 2, "seeds": 2}


def test_areas_of_rows_that_are_not_of_the_same_images_are_not_compared(params):
    of_one = known(TABLE).assign(idx=range(4), seed=0)
    rows = pd.concat([of_one.assign(eps_factor=factor) for factor in params.detect.eps_factors])
    other = rows.assign(idx=rows.idx + 1)
    for detect, aware in ((other, rows), (rows, other)):
        with pytest.raises(ValueError, match="are not of the same images"):
            detection.auc_differences({"tla": rows, "at": detect}, {"tla": rows, "at": aware},
                                      [("tla", "at")], params)
