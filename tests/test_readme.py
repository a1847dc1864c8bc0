"""Committed text agrees with committed numbers."""

from pathlib import Path

import pandas as pd
import yaml

from readme import updated
from tla.params import load_params
from tla.text import results_table

ROOT = Path(__file__).parents[1]


def test_the_results_table_of_the_readme_is_fresh():
    params, readme = load_params(ROOT / "params.yaml"), (ROOT / "README.md").read_text()
    accuracy = pd.read_csv(ROOT / "reports" / params.dataset / "tables" / "accuracy.csv")
    assert readme == updated(readme, results_table(params, accuracy, commands=True)), "run python stages/readme.py"


def test_params_hold_the_values_that_won_on_validation_images():
    plain = yaml.safe_load((ROOT / "params.yaml").read_text())
    tuning = pd.read_csv(ROOT / "reports" / "digits" / "tuning.csv")
    for method, trials in tuning.groupby("method"):
        best = trials.loc[trials.robust_accuracy.idxmax()]
        trial = plain["tune"]["trials"][method][best.trial]
        for key, value in trial.items():
            section = plain
            for part in key.split("."):
                section = section[part]
            assert section == value, f"{key} is {section}, but trial {best.trial} of {method} won with {value}"


def test_every_trial_was_scored_and_every_method_had_as_many():
    trials = yaml.safe_load((ROOT / "params.yaml").read_text())["tune"]["trials"]
    scored = pd.read_csv(ROOT / "reports" / "digits" / "tuning.csv").groupby("method").size().to_dict()
    assert scored == {method: len(listed) for method, listed in trials.items()}
    assert len(set(scored.values())) == 1


def test_adversarially_trained_models_are_far_above_the_undefended_one():
    accuracy = pd.read_csv(ROOT / "reports" / "digits" / "tables" / "accuracy.csv")
    union = accuracy[accuracy.outcome == "union_worst"].set_index("name")
    assert (union.drop("um").low > union.high["um"] + 0.3).all()
