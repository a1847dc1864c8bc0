"""The paper's values in the terms of our tables."""

from dataclasses import replace
from pathlib import Path

import pytest

from tla.report.published import forms, long_run, poster_auc, published, short_run

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def on(params, source):
    return replace(params, data=replace(params.data, source=source))


def values(params, source, figure, query):
    """The published values of one model by our outcome."""
    return published(on(params, source), figure).query(query).set_index("outcome").value


def test_the_posters_long_run_stands_at_both_of_our_readings(params):
    found = values(params, "mnist", "bars", "model == 'TLA'").to_dict()
    longest = params.evaluate.attacks["pgd"].steps[-1]
    assert found == pytest.approx({
        "cw-50_last": 0.9725, f"pgd_{longest}_last": 0.968, "pgd-restarts_last": 0.968,
        "mim-average_last": 0.9664})


def test_the_posters_short_run_in_its_sweep_stands_at_our_first_budget(params):
    found = values(params, "cifar10", "pool sweep", "pool == 500").to_dict()
    first = params.evaluate.attacks["pgd"].steps[0]
    assert found == pytest.approx({
        "cw-50_last": 0.513, f"pgd_{first}_last": 0.5046, "mim-average_last": 0.5008})


@pytest.mark.parametrize(("steps", "short", "long"), [
    ([20, 100, 2000], "pgd_20_last", "pgd_2000_last"),
    ([7, 20, 400], "pgd_20_last", "pgd_400_last"), ([40, 100], "pgd_40_last", "pgd_100_last")])
def test_the_short_run_is_of_twenty_steps_or_the_fewest_the_long_of_most(
        steps, short, long, make_params):
    params = make_params({"evaluate.attacks.pgd.steps": steps})
    assert (short_run(params), long_run(params)) == (short, long)


def test_every_outcome_is_a_column_of_our_tables(params):
    ours = {f"{name}_last" for name in params.evaluate.attacks}
    ours |= {f"pgd_{steps}_last" for steps in params.evaluate.attacks["pgd"].steps}
    for figure in ("bars", "pool sweep"):
        found = set(published(on(params, "cifar10"), figure).outcome)
        assert found and found <= ours


def test_without_the_papers_forms_of_an_attack_the_usual_one_is_read(params):
    attacks = {name: each for name, each in params.evaluate.attacks.items() if name != "cw-50"}
    few = replace(params, evaluate=replace(params.evaluate, attacks=attacks))
    assert forms(params) == ["cw-50_last", "mim-average_last"]
    assert forms(few) == ["cw_last", "mim-average_last"]


def test_data_that_the_paper_did_not_use_has_no_published_value(params):
    assert published(params, "bars").empty and poster_auc(params) == ""


def test_the_posters_areas_are_printed_once_each(params):
    expected = "UM 0.9483, AT 0.9125, ALP 0.8977, TLA 0.9494"
    assert poster_auc(on(params, "mnist")).endswith(expected)
