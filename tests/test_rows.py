"""Rows that are of other seeds, or no outcomes, stop a report before it computes anything."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from tla.files import write_rows
from tla.params import UserError
from tla.report.rows import rows_of, suite_of

PATH = Path("data", "digits", "rows", "at", "suite.csv.gz")


@pytest.fixture
def write(params, tmp_path, monkeypatch):
    """Writes the rows of a suite, two images a seed, with other columns."""
    monkeypatch.chdir(tmp_path)

    def written(**changes):
        rows = pd.DataFrame({"seed": [seed for seed in params.seeds for _ in range(2)]})
        for attack in params.evaluate.attacks:
            for outcome in params.evaluate.outcomes(attack):
                rows[outcome] = 1
        rows = rows.assign(clean=[1, 0] * len(params.seeds), **changes)
        write_rows(PATH, rows)
        return rows
    return written


def refusal(read, *asked):
    with pytest.raises(UserError) as refused:
        read(PATH, *asked)
    message = str(refused.value)
    assert message.startswith(f"{PATH}: ") and "; run dvc repro" in message
    return message


def test_sound_rows_are_read_as_they_are(params, write):
    written = write()
    pd.testing.assert_frame_equal(rows_of(PATH, params), written)
    pd.testing.assert_frame_equal(suite_of(PATH, params, "at"), written)


@pytest.mark.parametrize("value", [2, -1, 0.5, "right"])
def test_an_outcome_that_is_neither_right_nor_wrong_is_refused(value, params, write):
    write(cw_last=[value] + [1] * (2 * len(params.seeds) - 1))
    assert "cw_last: holds more than 0 and 1" in refusal(rows_of, params)


def test_shares_are_outcomes_of_stochastic_networks_and_over_radii(params, write):
    write(draws=20, cw_last=0.35)
    rows_of(PATH, params)
    write(l2_mean_worst=0.4)
    rows_of(PATH, params)
    write(draws=20, cw_last=1.05)
    assert "cw_last" in refusal(rows_of, params)


def test_an_image_that_was_not_attacked_has_no_outcome(params, write):
    write(square_worst=[None, 1] * len(params.seeds))
    assert rows_of(PATH, params).square_worst.isna().sum() == len(params.seeds)


def test_rows_of_another_seed_are_refused(params, write):
    write(seed=[seed + 1 for seed in params.seeds for _ in range(2)])
    assert "seed: 5 is none of the study's" in refusal(rows_of, params)


def test_a_suite_without_a_seed_is_refused(params, write):
    write(seed=0)
    rows_of(PATH, params)
    assert "seed: 1 is missing" in refusal(suite_of, params, "at")


def test_a_suite_has_the_seeds_that_its_model_has(params, write):
    fewer = dataclasses.replace(params, fewer_seeds={"at-norm": 2})
    rows = write()
    assert "seed: 2 is none of at-norm's" in refusal(suite_of, fewer, "at-norm")
    write_rows(PATH, rows[rows.seed < 2])
    assert set(suite_of(PATH, fewer, "at-norm").seed) == {0, 1}
    assert "seed: 2 is missing" in refusal(suite_of, fewer, "at")


def test_a_suite_without_an_outcome_is_refused(params, write):
    write_rows(PATH, write().drop(columns="mim_worst"))
    assert "mim_worst: is missing" in refusal(suite_of, params, "at")
