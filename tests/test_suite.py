"""From attacks to rows and from rows to metrics: every number re-derived by hand."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from tla.measure import suite
from tla.measure.engine import least_likely, run_attack
from tla.measure.suite import (
    attack_columns,
    attacked,
    clean_columns,
    seed_rows,
    suite_metrics,
    suite_rows,
    transfer_columns,
)
from tla.outcomes import Outcome, is_outcome, outcome_columns
from tla.params import Attack, Precision
from tla.train.data import Split

NONE = float("nan")
EXACT = Precision("float32", 0)

# Two seeds share the images 10 and 11; image 12 is seed 1's alone. Square sees two images of
# seed 1, AutoAttack one.
COLUMNS = ["idx", "label", "clean_pred", "clean", "pgd_pred", "pgd_20_last", "pgd_20_worst",
           "pgd_400_last", "pgd_400_worst", "cw_last", "cw_worst", "complaint_square",
           "autoattack_fab-t_worst", "autoattack_worst", "square_linf", "square_worst"]
FIRST = pd.DataFrame(
    [[10, 3, 3, 1, 3, 1, 1, 1, 1, 1, 1, NONE, NONE, NONE, NONE, NONE],
     [11, 4, 4, 1, 4, 1, 1, 1, 0, 1, 1, NONE, NONE, NONE, NONE, NONE]], columns=COLUMNS)
SECOND = pd.DataFrame(
    [[10, 3, 3, 1, 3, 1, 1, 0, 0, 0, 0, NONE, NONE, NONE, 0.1, 1],
     [11, 4, 5, 0, 4, 1, 1, 1, 1, 1, 1, NONE, NONE, NONE, NONE, NONE],
     [12, 5, 5, 1, 5, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0.1, 1]], columns=COLUMNS)


@pytest.fixture
def rows(params):
    """The suite's rows of the two seeds."""
    return suite_rows([FIRST.assign(seed=0), SECOND.assign(seed=1)], params.evaluate)


def plain(column):
    """A column as a list, None where it is empty."""
    return [None if np.isnan(value) else value for value in column]


# Outcomes over several attacks

def test_white_box_is_correct_clean_and_at_every_step_of_every_gradient_attack(rows):
    """Image 11 was broken on seed 0 on the way, and is wrong without an attack on seed 1."""
    assert plain(rows["white-box"]) == [1, 0, 0, 0, 1]


def test_robust_is_the_worst_of_all_attacks_and_empty_where_one_was_not_run(rows):
    """Only image 12 of seed 1 saw all of them; AutoAttack broke it."""
    assert plain(rows.robust) == [None, None, None, None, 0]


@pytest.mark.parametrize("column", ["clean", "pgd_20_worst", "pgd_400_worst", "cw_worst"])
def test_white_box_is_lost_by_any_one_of_them(column, params):
    """Also the clean image: an attack that says it left a misclassified image correct is odd."""
    lost = SECOND.assign(seed=1)
    lost.loc[2, column] = 0
    assert plain(suite_rows([lost], params.evaluate)["white-box"])[2] == 0


@pytest.mark.parametrize("column", [
    "clean", "pgd_20_worst", "cw_worst", "autoattack_worst", "autoattack_fab-t_worst",
    "square_worst"])
def test_robust_is_lost_by_any_one_of_them(column, params):
    kept = SECOND.assign(seed=1, autoattack_worst=1)
    kept["autoattack_fab-t_worst"] = kept["square_worst"] = 1
    assert plain(suite_rows([kept], params.evaluate).robust)[2] == 1
    kept.loc[2, column] = 0
    assert plain(suite_rows([kept], params.evaluate).robust)[2] == 0


@pytest.mark.parametrize("column", ["autoattack_worst", "square_worst"])
def test_other_attacks_are_no_part_of_white_box(column, params):
    rows = suite_rows([SECOND.assign(seed=1, **{column: 0})], params.evaluate)
    assert plain(rows["white-box"]) == [0, 0, 1]


def test_the_convention_last_is_no_part_of_either(params):
    kept = SECOND.assign(seed=1, autoattack_worst=1, pgd_20_last=0, pgd_400_last=0, cw_last=0)
    found = suite_rows([kept], params.evaluate)
    assert (plain(found["white-box"])[2], plain(found.robust)[2]) == (1, 1)


def test_white_box_is_empty_where_a_gradient_attack_was_not_run(params):
    """Broken by the others or not: of images that one attack did not see nothing is said."""
    kept = SECOND.assign(seed=1, cw_worst=[NONE, NONE, 1])
    assert plain(suite_rows([kept], params.evaluate)["white-box"]) == [None, None, 1]


def test_columns_are_identity_then_what_was_returned_then_outcomes_then_complaints(rows):
    assert list(rows) == [
        "idx", "label", "seed", "clean_pred", "pgd_pred", "square_linf", "clean", "pgd_20_last",
        "pgd_20_worst", "pgd_400_last", "pgd_400_worst", "cw_last", "cw_worst",
        "autoattack_fab-t_worst", "autoattack_worst", "square_worst", "white-box", "robust",
        "complaint_square"]


def test_a_measurement_of_some_images_leaves_the_others_empty_and_the_order_as_it_was():
    clean = pd.DataFrame({"seed": 1, "idx": [5, 3, 9], "label": [0, 1, 2], "clean": [1, 1, 0]})
    sample = pd.DataFrame({"seed": 1, "idx": [9, 5], "label": [2, 0], "square_worst": [0, 1]})
    whole = pd.DataFrame({"seed": 1, "idx": [9, 3, 5], "label": [2, 1, 0], "cw_worst": [0, 1, 1]})
    found = seed_rows(clean, [sample, whole])
    assert list(found) == ["seed", "idx", "label", "clean", "square_worst", "cw_worst"]
    assert found.idx.tolist() == [5, 3, 9]
    assert plain(found.square_worst) == [1, None, 0] and plain(found.cw_worst) == [1, 1, 0]


# Accuracy is the mean over images of the mean over seeds.

def test_metrics_by_hand(rows, params):
    """Of several budgets the largest, `last` where there is one; only images that were attacked."""
    metrics = suite_metrics(rows, listed(params, "pgd", "cw", "autoattack", "square"))
    assert metrics == pytest.approx({
        "clean_accuracy": (1 + 1 / 2 + 1) / 3, "white-box_accuracy": (1 / 2 + 0 + 1) / 3,
        "robust_accuracy": 0, "pgd_400_last_accuracy": (1 / 2 + 1 + 1) / 3,
        "cw_last_accuracy": (1 / 2 + 1 + 1) / 3, "autoattack_worst_accuracy": 0,
        "square_worst_accuracy": 1, "images": 3, "seeds": 2})


def listed(params, *names):
    """A suite of some attacks of params.yaml."""
    return SimpleNamespace(attacks={name: params.evaluate.attacks[name] for name in names})


def test_metrics_are_named_by_outcome(rows, params):
    metrics = suite_metrics(rows, listed(params, "pgd", "cw", "autoattack", "square"))
    for name in metrics.keys() - {"images", "seeds"}:
        outcome, _, kind = name.rpartition("_")
        assert str(Outcome.parse(outcome)) == outcome and kind == "accuracy"


# Rows of real attacks

@pytest.fixture(scope="module")
def split(images):
    x, y = images
    return Split(x, y, torch.arange(100, 100 + len(y)))


@pytest.fixture
def evaluate(network, split):
    """Columns of the given attacks on the split."""
    def measured(attacks, batch=64, eps=0.08, seed=0):
        columns = dict(clean_columns(network, split, batch=batch))
        for name, attack in attacks.items():
            columns |= attack_columns(network, split, name, attack, eps=eps,
                                      precision=EXACT, batch=batch, seed=seed)
        return pd.DataFrame({name: column.numpy() for name, column in columns.items()})
    return measured


@pytest.fixture
def attacks(params):
    """The gradient attacks of params.yaml with at most 30 steps."""
    found = {}
    for name, attack in params.evaluate.attacks.items():
        if isinstance(attack, Attack):
            steps = sorted({min(steps, 30) for steps in attack.steps})
            found[name] = dataclasses.replace(attack, steps=steps)
    return found


def test_every_readout_has_both_conventions_and_a_budget_where_there_are_several(evaluate, attacks):
    rows, outcomes, shown = evaluate(attacks), ["clean"], ["clean_pred"]
    for name, attack in attacks.items():
        budgets = [f"_{steps}" for steps in attack.steps] if len(attack.steps) > 1 else [""]
        for budget in budgets:
            outcomes += [f"{name}{budget}_last", f"{name}{budget}_worst"]
        shown += [f"{name}_linf", f"{name}_pred"]
    assert len(rows) == 64 and outcome_columns(rows) == outcomes
    assert set(rows) == {*outcomes, *shown}


def test_clean_is_whether_the_class_is_the_label(evaluate, split, network):
    rows = evaluate({})
    assert rows.clean_pred.tolist() == network(split.x)[0].argmax(1).tolist()
    assert rows.clean.tolist() == (rows.clean_pred == split.y.numpy()).astype(int).tolist()


def test_the_prediction_shown_agrees_with_correct_after_the_last_step(evaluate, attacks, split):
    rows = evaluate(attacks)
    for name, attack in attacks.items():
        budget = f"_{attack.steps[-1]}" if len(attack.steps) > 1 else ""
        right = rows[f"{name}_pred"] == split.y.numpy()
        assert right.equals(rows[f"{name}{budget}_last"].astype(bool))


def test_worst_is_at_most_last_and_at_most_clean(evaluate, attacks):
    rows = evaluate(attacks)
    for column in rows.filter(regex="_worst$"):
        assert (rows[column] <= rows.clean).all()
        assert (rows[column] <= rows[column.replace("_worst", "_last")]).all()


def test_outcomes_stand_in_the_column_of_their_convention(network, split, plain_attack):
    """Labelled as what the attack aims at: wrong before the first step, right after the last."""
    aimed = dataclasses.replace(split, y=least_likely(lambda x: network(x)[0], split.x))
    attack = plain_attack(loss="least_likely", steps=[1, 60], rel_step_size=0.05)
    columns = attack_columns(network, aimed, "to", attack, eps=0.4, precision=EXACT, batch=64,
                             seed=0)
    assert columns["to_1_worst"].sum() == columns["to_60_worst"].sum() == 0
    assert columns["to_1_last"].sum() < columns["to_60_last"].sum() == 64


def test_the_change_shown_is_within_eps(evaluate, attacks):
    changes = evaluate(attacks).filter(like="_linf")
    assert changes.to_numpy().max() <= 0.08 + 1e-7     # the column is float32
    assert (changes.max() > 0.05).all()


def test_rows_do_not_depend_on_the_batch(evaluate, plain_attack):
    attacks = {"pgd": plain_attack(steps=[5, 20]), "mim": plain_attack(momentum="l1", decay=1.0)}
    pd.testing.assert_frame_equal(evaluate(attacks, batch=64), evaluate(attacks, batch=7))


def test_random_starts_are_those_of_the_training_seed_and_of_the_attack_alone(
        evaluate, plain_attack):
    """So that an attack beside it, or before it, changes no outcome of it."""
    small = plain_attack(steps=[1], rel_step_size=0.01, random_start=True)
    alone, beside = evaluate({"pgd": small}), evaluate({"cw": small, "pgd": small})
    pd.testing.assert_frame_equal(beside[list(alone)], alone)
    assert not beside.cw_linf.equals(beside.pgd_linf)
    assert not evaluate({"pgd": small}, seed=1).pgd_linf.equals(alone.pgd_linf)


# The referee

@pytest.fixture
def cheating(monkeypatch):
    """Gradient attacks are told a larger eps than the referee."""
    def told(*arguments, eps, **settings):
        return run_attack(*arguments, eps=2 * eps, **settings)
    monkeypatch.setattr(suite, "run_attack", told)


@pytest.mark.usefixtures("cheating")
def test_rows_pass_a_referee(evaluate, plain_attack):
    with pytest.raises(ValueError, match="more than eps"):
        evaluate({"pgd": plain_attack()})


@pytest.mark.usefixtures("cheating")
def test_attacked_images_pass_a_referee(network, split, plain_attack):
    with pytest.raises(ValueError, match="more than eps"):
        attacked(network, split, plain_attack(), eps=0.08, batch=64, generator=torch.Generator())


@pytest.mark.usefixtures("cheating")
def test_transferred_images_pass_a_referee(network, split, plain_attack):
    with pytest.raises(ValueError, match="more than eps"):
        transfer_columns(network, split, plain_attack(), [], eps=0.08, batch=64, seed=0)


def test_a_search_in_bfloat16_shows_what_its_stand_in_says(network, split, params, plain_attack):
    columns = attack_columns(network, split, "pgd", plain_attack(), eps=0.08, batch=64, seed=0,
                             precision=Precision("bfloat16", 2))
    assert columns["pgd_search_pred"].shape == columns["pgd_pred"].shape
    assert not is_outcome("pgd_search_pred")


def test_how_often_the_stand_in_differs_is_a_metric_where_it_searched(params):
    seeds = [FIRST.assign(seed=0, pgd_search_pred=[3, 9], cw_pred=[1, 1], cw_search_pred=[1, 1])]
    measured = listed(params, "pgd", "cw", "autoattack", "square")
    rows = suite_rows(seeds, params.evaluate)
    assert suite_metrics(rows, measured)["search_differs"] == pytest.approx(0.25)
    rows = suite_rows([FIRST.assign(seed=0)], params.evaluate)
    assert "search_differs" not in suite_metrics(rows, measured)
