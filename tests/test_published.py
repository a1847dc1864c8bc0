"""The paper's values in the terms of our tables."""

from dataclasses import replace
from pathlib import Path

import pytest

from tla.published import published, short_run
from tla.text import mean_auc, poster_auc

ROOT = Path(__file__).parents[1]


def on(params, source):
    return replace(params, data=replace(params.data, source=source))


def test_the_posters_long_run_stands_at_both_of_our_readings(params):
    table = published(on(params, "mnist"), "bars", ROOT).query("model == 'TLA'").set_index("outcome").value
    longest = params.evaluate.attacks["pgd"].steps[-1]
    assert table.to_dict() == pytest.approx({
        "cw_last": 0.9725, f"pgd_{longest}_last": 0.968, "pgd_restarts_last": 0.968, "mim_last": 0.9664})


def test_the_posters_short_run_in_its_sweep_stands_at_our_first_budget(params):
    table = published(on(params, "cifar10"), "pool sweep", ROOT).query("pool == 500").set_index("outcome").value
    first = params.evaluate.attacks["pgd"].steps[0]
    assert table.to_dict() == pytest.approx({"cw_last": 0.513, f"pgd_{first}_last": 0.5046, "mim_last": 0.5008})


def test_the_short_run_is_the_one_of_twenty_steps_where_there_is_one(params):
    attacks = params.evaluate.attacks
    assert params.evaluate.attacks["pgd"].steps[0] == 20 == short_run(params)
    for steps, expected in (([7, 20, 400], 20), ([40, 100], 40)):
        evaluate = replace(params.evaluate, attacks=attacks | {"pgd": replace(attacks["pgd"], steps=steps)})
        assert short_run(replace(params, evaluate=evaluate)) == expected


@pytest.mark.parametrize(("task", "accuracy", "expected"), [
    ("misclassified", 0.5, 0.7), ("misclassified", 0.05, None), ("misclassified", 0.95, None),
    ("adversarial", 0.05, 0.7)])
def test_an_area_of_a_few_images_is_undefined(params, task, accuracy, expected):
    """1,797 images in five folds: 359 a seed, of which a twentieth are 18, fewer than compare.least."""
    metrics = {"accuracy_eps_1": accuracy, f"{task}_softmax_auc_eps_1": 0.7}
    assert params.compare.least == 20 and mean_auc(params, metrics, task, "softmax", 1.0, 1797) == expected


def test_every_outcome_is_a_column_of_our_tables(params):
    ours = {f"{name.replace('-', '_')}_last" for name in params.evaluate.attacks}
    ours |= {f"pgd_{steps}_last" for steps in params.evaluate.attacks["pgd"].steps}
    for figure in ("bars", "pool sweep"):
        assert set(published(on(params, "cifar10"), figure, ROOT).outcome) <= ours


def test_data_that_the_paper_did_not_use_has_no_published_value(params, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert published(params, "bars").empty and poster_auc(params) == ""


def test_the_posters_areas_are_printed_once_each(params, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert poster_auc(on(params, "mnist")).endswith("UM 0.9483, AT 0.9125, ALP 0.8977, TLA 0.9494")
