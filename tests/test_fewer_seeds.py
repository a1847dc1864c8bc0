"""A model that is trained with fewer seeds: what its stages make, and what reports make of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import PARAMS
from small_study import NAMES
from test_params import refusal
from test_report import MODELS, TEMPLATE, write_random_rows

import compare
import evaluate
import resolve
import train
from away import chosen_of, log_path
from returned import join_logs
from tla.files import read_rows, write_rows
from tla.measure.norms import ATTACKS
from tla.params import UserError
from tla.report import tables
from tla.report.pairs import shared
from tla.report.statistics import paired_difference
from tla.report.survivors import survivors_table
from tla.report.text import read_tables, report_text
from tla.train.checkpoints import model_path
from tla.train.methods import load_study

FEW = {"seeds": [0, 1, 2], "tune.seeds": [0], "models": [*NAMES, "at-norm"], "train.epochs": 1,
       "mining.batch": 20, "methods.at-norm.mining_batch": 20,
       "fewer_seeds": {"at-norm": 2}, "evaluate.seeds": {"autoattack": [1, 2], "square": [1]}}
AT_NORM = ["params.yaml", "--model", "at-norm"]


# Parameters

@pytest.mark.parametrize(("fewer", "said"), [
    ({"tla-b7": 2}, "fewer_seeds: not among the models: tla-b7"),
    ({"at": 2}, "fewer_seeds: at is among represent.models, which have all"),
    ({"at-norm": 5}, "fewer_seeds.at-norm: 5 of 5 seeds are not fewer"),
    ({"at-norm": 1}, "fewer_seeds.at-norm: "),
], ids=str)
def test_what_makes_no_sense_is_refused(fewer, said, write_params, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert said in refusal(write_params({"fewer_seeds": fewer}))


def test_the_first_seeds_are_taken(make_params):
    params = make_params({"fewer_seeds": {"at-norm": 2}, "seeds": [3, 5, 6, 8, 9],
                          "tune.seeds": [3], "evaluate.seeds": {}})
    assert params.seeds_of("at-norm") == [3, 5] and params.seeds_of("at") == [3, 5, 6, 8, 9]


# Stages of the model

def test_its_networks_are_the_first_of_those_with_all_seeds(study):
    found = {}
    for fewer in ({}, {"at-norm": 2}):
        params = study.params(FEW | {"fewer_seeds": fewer})
        train.main(AT_NORM)
        paths = [model_path(params, "at-norm", seed) for seed in params.seeds]
        log = pd.read_csv("reports/digits/training/at-norm.csv")
        found[len(fewer)] = [path.read_bytes() for path in paths if path.exists()], log
        for path in paths:
            path.unlink(missing_ok=True)
    (weights, log), (fewer_weights, fewer_log) = found.values()
    assert len(weights) == 3 and fewer_weights == weights[:2]
    pd.testing.assert_frame_equal(fewer_log, log[log.seed < 2])


def test_it_is_attacked_on_its_seeds_alone(study):
    """And no attack asks for a network of another seed, though others see that one."""
    params = study.params(FEW)
    for seed in params.seeds_of("at-norm"):
        study.save(params, "at-norm", seed, 1e-4 * seed)
    evaluate.main(AT_NORM)
    folder = Path("data", "digits", "rows", "at-norm")
    suite, norms = (read_rows(folder / f"{name}.csv.gz") for name in ("suite", "norms"))
    assert set(suite.seed) == set(norms.seed) == {0, 1}
    seen = {"robust": {1}, "autoattack_worst": {1}, "pgd-restarts_last": {0, 1}}
    for outcome, seeds in seen.items():
        assert set(suite.seed[suite[outcome].notna()]) == seeds, outcome
    assert norms.filter(regex=ATTACKS["l2"][0]).notna().any(axis=None)


def test_its_parameters_say_which_seeds_it_has(study):
    study.params(FEW)
    resolve.main(["params.yaml"])
    for model, seeds in (("at-norm", [0, 1]), ("at", [0, 1, 2])):
        path = Path("reports", "digits", "parameters", f"{model}.json")
        assert json.loads(path.read_text())["seeds"] == seeds


def test_another_machine_trains_no_other_seed_and_its_logs_are_whole_without(study):
    params = study.params(FEW)
    assert chosen_of(params, ["at", "at-norm"], [0, 1])[-1] == ("at-norm", 1)
    with pytest.raises(UserError, match="seeds: 2 is not among those of at-norm"):
        chosen_of(params, ["at", "at-norm"], [1, 2])
    for seed in (0, 1):
        assert not join_logs(params, "at-norm")
        path = log_path(params, "at-norm", seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"seed,epoch\n{seed},1\n")
    assert join_logs(params, "at-norm")
    assert pd.read_csv("reports/digits/training/at-norm.csv").seed.tolist() == [0, 1]


# Reports

@pytest.fixture
def compared(raw_params, tmp_path, monkeypatch):
    """Parameters of a study of random rows in which TLA with a pool of 30 has three of five seeds,
    and the suites by model; `compare` was run."""
    monkeypatch.chdir(tmp_path)
    write_random_rows(tmp_path, raw_params | {"fewer_seeds": {"tla-b30": 3}}, MODELS)
    shutil.copy(PARAMS.parent / "reports" / "published.csv", "reports")
    params = load_study("params.yaml")
    folder = Path("data", "digits", "rows")
    for name in ("suite", "norms"):
        path = folder / "tla-b30" / f"{name}.csv.gz"
        rows = read_rows(path)
        write_rows(path, rows[rows.seed < 3])
    compare.main(["params.yaml"])
    return params, {m: read_rows(folder / m / "suite.csv.gz") for m in params.models}


def test_two_models_are_compared_on_the_seeds_that_both_have(compared):
    params, suites = compared
    table = pd.read_csv("reports/digits/tables/differences.csv")
    for model, baseline, seeds in (("tla-b30", "tla-b1", 3), ("tla", "tla-b30", 3),
                                   ("tla", "tla-b1", 5)):
        gains = []
        for seed in range(seeds):
            a, b = (suites[name][suites[name].seed == seed].cw_last.to_numpy()
                    for name in (model, baseline))
            gains.append(a - b)
        by_hand = paired_difference(gains, shared(params))
        (line,) = table[(table.model == model) & (table.baseline == baseline)
                        & (table.outcome == "cw_last")].to_dict("records")
        assert line["seeds"] == seeds and line["images"] == 20 * seeds
        for name in ("difference", "low", "high", "p"):
            assert line[name] == pytest.approx(by_hand[name]), (model, name)


def test_models_without_a_common_seed_are_in_no_line():
    rows = pd.DataFrame({"seed": 0, "idx": range(4), "clean": 1})
    assert tables.differences({"a": rows, "b": rows.assign(seed=1)}, [("a", "b")], False).empty


def test_images_are_counted_on_the_seeds_that_both_models_have(compared):
    params, suites = compared
    table = survivors_table(suites, params)
    lines = table[table.outcome == "clean"].set_index(["model", "other"])
    counted = lines[["both", "model_only", "other_only", "neither"]]
    assert counted.loc[("tla-b1", "tla-b30")].sum() == 60
    assert counted.loc[("tla-b1", "tla")].sum() == 100
    a, b = (suites[m][suites[m].seed < 3].clean.to_numpy() for m in ("tla-b1", "tla-b30"))
    assert lines.both[("tla-b1", "tla-b30")] == np.sum((a == 1) & (b == 1))


def test_the_report_says_so(compared):
    params, _ = compared
    distances = dict.fromkeys(params.represent.models, {
        f"{kind}_{other}_class_distance": 0.5 for kind in ("clean", "adv")
        for other in ("same", "other")})
    text = report_text(TEMPLATE, params, read_tables(params), distances, "> in short\n")
    assert "Only so many of the training seeds, the first, have\nTLA, pool 30 (3).\n" in text
    assert "100 test images, 5 training seeds," in text
    (line,) = [line for line in text.splitlines() if line.startswith("| TLA, pool 30 | 2, 2")]
    assert line.startswith("| TLA, pool 30 | 2, 2, 2 |")
