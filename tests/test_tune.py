"""Hyper-parameter trials: as many for every method, evenly spread, scored once and kept."""

import math
import shutil
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import PARAMS, prepare_digits
from small_study import CPU, edit

import train
import tune
from tla.params import Range, UserError, load_params
from tla.report.tuning import (
    COLUMNS,
    best_first,
    drawn_against,
    read_trials,
    settings_of,
    trials_path,
    winners,
)
from tla.train.chance import stream
from tla.train.data import VALIDATION
from tla.train.methods import load_study
from tla.train.pgd import robust
from tla.train.training import Diverged, Trainer
from tla.train.trials import on_edge, places, trials

STUDIES = sorted(PARAMS.parent.glob("experiments/*/params.yaml"))
STUDIES.remove(PARAMS.parent / "experiments" / "summary" / "params.yaml")
every_study = pytest.mark.parametrize("path", [PARAMS, *STUDIES], ids=lambda path: path.parent.name)
MNIST = load_study(PARAMS.parent / "experiments" / "mnist-fast" / "params.yaml")
tuned = pytest.mark.parametrize("method", MNIST.tune.space)

LR = {"low": 0.001, "high": 0.1}
SPACE = {"at": {"methods.at.lr": LR}, "um": {"methods.um.lr": LR},
         "tla": {"methods.tla.lr": LR, "methods.tla.lambda1": {"low": 0.5, "high": 8.0},
                 "mining.batch": [5, 10]}}
ATTACK = {"kind": "gradient", "loss": "cross_entropy", "steps": [2], "rel_step_size": 0.5,
          "random_start": True, "restarts": 1, "momentum": "none", "decay": 0.0}
SMALL = {"seeds": [0, 1], "models": ["um", "at", "alp", "tla-b20", "tla"],
         "represent.models": ["um", "at", "alp", "tla"], "model.widths": [8, 6],
         "train.epochs": 1, "train.batch": 32, "train.selection": {"pgd": ATTACK},
         "attack.steps": 1, "tune.trials": 4, "tune.seed": 0, "tune.seeds": [0, 1],
         "tune.halving": False, "tune.attacks": {"pgd": ATTACK}, "tune.space": SPACE}
RUNS = 3 * 4 * 2


# The draw

@every_study
def test_every_method_gets_as_many_trials(path):
    params = load_study(path)
    for method in params.tune.space:
        assert len(trials(params.tune, method)) == params.tune.trials


@tuned
def test_each_stratum_of_a_range_is_tried_exactly_once(method):
    """Also after rounding: its share of the logarithm, of the value that is written."""
    n = MNIST.tune.trials
    for key, axis in MNIST.tune.space[method].items():
        values = [trial[key] for trial in trials(MNIST.tune, method)]
        if isinstance(axis, Range):
            shares = [math.log(v / axis.low) / math.log(axis.high / axis.low) for v in values]
            assert sorted(int(share * n) for share in shares) == list(range(n)), key
        else:
            assert Counter(values) == dict.fromkeys(axis, n // len(axis)), key


def test_every_method_is_tried_at_the_same_learning_rates():
    """And each tunes its own."""
    methods = MNIST.tune.space
    assert list(methods) == ["at", "alp", "trades", "tla"] and MNIST.tune.trials == 12
    rates = {method: sorted(trial[f"methods.{method}.lr"] for trial in trials(MNIST.tune, method))
             for method in methods}
    assert all(found == rates["at"] for found in rates.values()) and len(set(rates["at"])) == 12


@tuned
def test_a_value_is_short_enough_to_be_written_by_hand(method):
    for trial in trials(MNIST.tune, method):
        for key, axis in MNIST.tune.space[method].items():
            if isinstance(axis, Range):
                assert trial[key] == float(f"{trial[key]:.1e}")


def test_the_draw_hangs_on_its_seed_alone(make_params):
    one, same, other = (trials(make_params(SMALL | {"tune.seed": seed}).tune, "tla")
                        for seed in (0, 0, 1))
    assert one == same != other


@pytest.mark.parametrize("axes", range(2, 7))
def test_no_two_axes_are_confounded(axes):
    found = np.corrcoef(places(12, axes, MNIST.tune.seed).T) - np.eye(axes)
    assert abs(found).max() < 0.35


def test_trials_that_are_listed_are_taken_as_they_stand(params, raw_params):
    for method, listed in raw_params["tune"]["space"].items():
        assert trials(params.tune, method) == listed
        assert not [n for n in range(len(listed)) if on_edge(params.tune, method, n)]


@tuned
def test_the_edge_is_the_first_and_the_last_stratum_of_a_range(method):
    found = trials(MNIST.tune, method)
    for key, axis in MNIST.tune.space[method].items():
        values = [trial[key] for trial in found]
        ends = {min(values), max(values)} if isinstance(axis, Range) else set()
        edges = {values[n] for n in range(len(found)) if key in on_edge(MNIST.tune, method, n)}
        assert edges == ends, key


# What is refused

def line_about(path):
    """The one line that a study is refused with."""
    with pytest.raises(UserError) as refused:
        load_study(path)
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(("key", "why"), [
    ("methods.at.rate", "no such"), ("optimiser.lr", "no such"), ("lr", "no such"),
    ("methods.at", "no such"), ("methods.at.lr.low", "no such"), ("train.lr", "no such"),
    ("methods.tla.lr", "another method")])
@pytest.mark.parametrize("listed", [False, True])
def test_an_unknown_key_of_a_space_is_refused_where_parameters_are_checked(
        key, why, listed, write_params):
    space = [{key: 0.1}] * 4 if listed else {key: LR}
    message = line_about(write_params(SMALL | {"tune.space": SPACE | {"at": space}}))
    assert f"tune.space.at: {key}:" in message and why in message


@pytest.mark.parametrize(("axis", "key"), [
    ({"low": 0.1, "high": 0.01}, ""), ({"low": 0.1, "high": 0.1}, ""),
    ({"low": 0.0, "high": 0.1}, ".low"), ({"low": -1.0, "high": 0.1}, ".low"),
    ({"low": 0.1}, ".high"), ({"low": "a", "high": 0.1}, ".low"), ([], ""), (["a"], ".0"),
    ([True], ".0"), (0.1, "")], ids=str)
def test_a_broken_axis_is_refused_by_the_key_of_the_file(axis, key, write_params):
    message = line_about(write_params(SMALL | {"tune.space": {"at": {"methods.at.lr": axis}}}))
    assert f"tune.space.at.methods.at.lr{key}: " in message


@pytest.mark.parametrize("space", [
    {}, 3, [{"methods.at.lr": 0.1}] * 3, [{"methods.at.lr": "a"}] * 4, [{}] * 4], ids=str)
def test_a_broken_space_is_refused(space, write_params):
    """Also a list that would give a method fewer trials than the others."""
    assert "space.at" in line_about(write_params(SMALL | {"tune.space": {"at": space}}))


# The stage

@pytest.fixture
def study(dataset, write_params, monkeypatch, tmp_path):
    """A function that writes the small study with other values; `trained`: seed, method, trial."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "deterministic", lambda: CPU)
    monkeypatch.setattr(tune, "map_parallel", lambda function, items, *_, **__:
                        [function(item) for item in items])
    answers, trained = tune.answers, []

    def noted(trial, position, *rest):
        found = answers(trial, position, *rest)
        trained.append((trial.params.seeds[position], trial.method, trial.number))
        return found
    monkeypatch.setattr(tune, "answers", noted)

    def write(changes=None):
        path = write_params(SMALL | (changes or {}))
        prepare_digits(Path("data", "digits", "prepared"), load_params(path))
        return str(path)
    write.trained = trained
    return write


def table():
    return Path("reports", "digits", "tuning.csv").read_text()


def test_every_trial_is_scored_on_every_seed_by_hand(study, dataset):
    """One line a trial: mean accuracies, and the spread of the robust one."""
    path = study()
    tune.main([path])
    params = load_study(path)
    found = read_trials(params)
    assert list(found) == list(COLUMNS) and len(found) == 12 and (found.seeds == 2).all()
    for line in found.itertuples():
        trial = yaml.safe_load(Path(path).read_text())
        edit(path, {k: yaml.safe_load(v) for k, v in settings_of(line.settings).items()})
        own, right = load_study(path), []
        for position, seed in enumerate(params.seeds):
            trainer = Trainer(own, line.method, seed, position, dataset)
            trainer.epoch()
            held = dataset.split(position, VALIDATION)
            trainer.network.load_state_dict(trainer.best)
            right.append(robust(lambda x: trainer.network.eval()(x)[0], held.x, held.y,  # noqa: B023
                                params.tune.attacks, eps=0.15,
                                generator=stream(seed, "evaluation", CPU)))
        clean, left = ([mask.double().mean().item() for mask in masks]
                       for masks in zip(*right, strict=True))
        assert line.clean_accuracy == pytest.approx(np.mean(clean), abs=1e-4)
        assert line.robust_accuracy == pytest.approx(np.mean(left), abs=1e-4)
        assert line.robust_std == pytest.approx(np.std(left, ddof=1), abs=1e-4)
        Path(path).write_text(yaml.safe_dump(trial))


def test_the_first_seed_of_every_method_comes_before_the_second_of_any(study):
    tune.main([study()])
    assert [seed for seed, _, _ in study.trained] == [0] * 12 + [1] * 12
    assert [(method, number) for _, method, number in study.trained[:12]] == [
        (method, number) for method in ("at", "tla", "um") for number in range(4)]


def test_with_halving_the_second_seed_is_for_the_better_half_of_each_method(study):
    tune.main([study({"tune.seeds": [0]})])
    first = read_trials(load_study(study()))
    tune.main([study({"tune.halving": True})])
    found = read_trials(load_study(study()))
    assert study.trained[:12] == [(0, *run) for run in product(("at", "tla", "um"), range(4))]
    for method in ("at", "tla", "um"):
        ranked = best_first(first[first.method == method])
        again = [number for seed, own, number in study.trained[12:] if own == method and seed == 1]
        assert again == sorted(ranked.trial[:2])
        assert set(found.trial[(found.method == method) & (found.seeds == 2)]) == set(again)
    assert len(study.trained) == 12 + 6 and (winners(found).seeds == 2).all()


@pytest.mark.parametrize(("trials_of", "left"), [(4, 2), (3, 2), (1, 1)])
def test_half_of_an_odd_number_is_rounded_up(trials_of, left):
    means = pd.DataFrame({"method": "at", "trial": range(trials_of), "seeds": 1,
                          "clean_accuracy": 0.9, "robust_accuracy": np.arange(trials_of) / 10})
    chosen = [tune.Trial("at", number, "", None) for number in range(trials_of)]
    assert tune.better_half(chosen, means) == chosen[-left:]


@pytest.mark.parametrize("stopped_after", [1, 5, RUNS - 1])
def test_a_tuning_that_was_stopped_twice_gives_the_same_table_and_repeats_nothing(
        stopped_after, study, monkeypatch):
    path = study()
    tune.main([path])
    whole = table()
    shutil.rmtree(Path("data", "kept"))
    trials_path(load_study(path)).unlink()
    study.trained.clear()
    noted = tune.answers

    def stopping(*arguments):
        if len(study.trained) in (stopped_after, RUNS // 2) and not stops.get(len(study.trained)):
            stops[len(study.trained)] = True
            raise KeyboardInterrupt
        return noted(*arguments)
    stops = {}
    monkeypatch.setattr(tune, "answers", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tune.main([path])
    assert not Path("reports").exists() or not trials_path(load_study(path)).exists()
    tune.main([path])
    assert table() == whole
    assert len(study.trained) == len(set(study.trained)) == RUNS


def test_method_by_method_gives_the_same_table_and_repeats_nothing(study):
    path = study()
    for method in ("tla", "um", "at"):
        tune.main([path, "--method", method])
    parts = table()
    tune.main([path])
    assert table() == parts and len(study.trained) == RUNS
    tune.main([path, "--method", "at", "--method", "um"])
    assert table() == parts and len(study.trained) == RUNS


def test_more_seeds_or_another_range_keep_what_is_the_same(study):
    """The first seeds of a longer list train on the same images."""
    tune.main([study()])
    study.trained.clear()
    tune.main([study({"seeds": [0, 1, 2], "tune.seeds": [0, 1, 2]})])
    assert {seed for seed, _, _ in study.trained} == {2}
    study.trained.clear()
    moved = {"um": {"methods.um.lr": LR | {"high": 0.2}}}
    tune.main([study({"tune.space": SPACE | moved})])
    assert {method for _, method, _ in study.trained} == {"um"}


@pytest.mark.parametrize("changes", [
    {"tune.attacks": {"pgd": ATTACK | {"steps": [3]}}}, {"train.epochs": 2}, {"attack.eps": 0.1}],
    ids=str)
def test_a_trial_of_another_training_or_attack_is_scored_anew(changes, study):
    tune.main([study({"tune.seeds": [0]}), "--method", "um"])
    tune.main([study({"tune.seeds": [0]} | changes), "--method", "um"])
    assert len(study.trained) == 8


def test_lines_of_trials_that_are_none_any_more_leave_the_table(study):
    tune.main([study({"tune.seeds": [0]})])
    moved = {"at": {"methods.at.lr": LR | {"high": 0.2}}}
    path = study({"tune.space": SPACE | moved, "tune.seeds": [0]})
    tune.main([path, "--method", "um"])
    assert set(read_trials(load_study(path)).method) == {"tla", "um"}


def test_a_training_that_diverges_is_right_nowhere(study, monkeypatch):
    """Or one learning rate that is too large would end the search for the right one."""
    epoch = Trainer.epoch

    def diverging(self):
        if self.weights.lr > 0.05:
            raise Diverged("the loss is nan")
        epoch(self)
    monkeypatch.setattr(Trainer, "epoch", diverging)
    path = study({"tune.seeds": [0]})
    tune.main([path, "--method", "at"])
    found = read_trials(load_study(path))
    assert sorted(found.clean_accuracy == 0) == [False, False, False, True]
    assert (found.robust_accuracy[found.clean_accuracy == 0] == 0).all()


@pytest.mark.parametrize(("changes", "why"), [
    ({"tune.space": SPACE | {"tla": {"mining.batch": [0.5, 10]}}}, "mining.batch"),
    ({"tune.space": SPACE | {"tla": {"methods.tla.margin_twin": [-1, 10]}}}, "margin_twin"),
    ({"tune.seeds": [0, 7]}, "[7]")], ids=["pool", "margin", "seed"])
def test_what_no_trial_could_be_trained_with_is_refused_before_any_is(changes, why, study):
    path = study(changes)
    with pytest.raises(UserError, match="params.yaml") as refused:
        tune.main([path])
    assert why in str(refused.value) and "\n" not in str(refused.value)
    assert study.trained == []


def test_a_method_that_is_no_model_of_the_study_waits(study):
    params = load_study(study({"tune.space": SPACE | {"trades": {"methods.trades.lr": LR}}}))
    assert "trades" not in params.models
    assert {trial.method for trial in tune.all_trials(params)} == set(SPACE)


def test_a_method_without_a_space_is_refused_with_those_that_have_one(study):
    with pytest.raises(UserError, match="'alp' has none, or is not among models; choose one of at, "
                                        "tla, um"):
        tune.main([study(), "--method", "alp"])


# The table

def lines(scores):
    """Lines of a seed, of trials of AT and UM with these robust accuracies."""
    found = []
    for method, own in scores.items():
        for number, value in enumerate(own):
            found.append({"method": method, "trial": number, "settings": "a=1", "seed": 0,
                          "clean_accuracy": 0.9, "robust_accuracy": value})
    return found


@pytest.mark.parametrize("best", range(4))
def test_a_best_trial_on_the_edge_of_a_range_is_said_to_be(best, make_params):
    params = make_params(SMALL)
    edge = on_edge(params.tune, "at", best)
    scores = [0.5] * 4
    scores[best] = 0.6
    found = tune.summary(lines({"at": scores}), params)
    assert list(found.edge) == [" ".join(edge) if n == best else "" for n in range(4)]


def test_two_of_four_learning_rates_are_on_the_edge(make_params):
    params = make_params(SMALL)
    assert [on_edge(params.tune, "at", n) for n in range(4)].count(["methods.at.lr"]) == 2


def test_the_edge_is_printed_in_one_line_and_stands_in_the_table(study, capsys, monkeypatch):
    path = study({"tune.seeds": [0]})
    params = load_study(path)
    best = next(n for n in range(4) if on_edge(params.tune, "um", n))

    def won(trial, position, data, resume):
        edge = on_edge(params.tune, trial.method, trial.number)
        right = trial.number == best if trial.method == "um" else not edge
        return {"clean": torch.tensor([right]), "robust": torch.tensor([right])}
    monkeypatch.setattr(tune, "answers", won)
    tune.main([path])
    said = capsys.readouterr().out
    assert "on the edge of a range: um (methods.um.lr)." in said
    assert said.count("\n") == 1
    found = read_trials(params)
    assert list(found.edge[found.edge != ""]) == ["methods.um.lr"]


def test_clean_accuracy_and_then_the_earlier_trial_break_ties():
    found = pd.DataFrame({
        "method": ["at"] * 3 + ["um"] * 3, "trial": [0, 1, 2] * 2, "seeds": 1,
        "robust_accuracy": [0.5, 0.5, 0.4, 0, 0, 0],
        "clean_accuracy": [0.8, 0.9, 1, 0.7, 0.7, 0.6]})
    assert list(winners(found).trial) == [1, 0]


def test_a_trial_of_more_seeds_comes_before_one_of_fewer():
    found = pd.DataFrame({"method": "at", "trial": [0, 1, 2], "robust_accuracy": [0.7, 0.5, 0.6],
                          "clean_accuracy": 0.9, "seeds": [1, 2, 2]})
    assert list(best_first(found).trial) == [2, 1, 0] and list(winners(found).trial) == [2]


def test_trials_are_shown_against_the_first_positive_key_that_they_differ_in():
    found = pd.DataFrame({"settings": ["e=4 p=None w=0.0 lr=0.1 z=1", "e=4 p=2 w=0.1 lr=0.2 z=2"]})
    key, values = drawn_against(found)
    assert key == "lr" and list(values) == [0.1, 0.2]
    key, values = drawn_against(found[:1])
    assert key == "e" and list(values) == [4]


@pytest.mark.parametrize("text", ["", ",edge"])
def test_a_table_without_edges_is_read_too(text, params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "reports" / "digits" / "tuning.csv"
    path.parent.mkdir(parents=True)
    assert read_trials(params).empty
    head = ",".join(COLUMNS[:-1])
    path.write_text(f"{head}{text}\nat,0,a=1,0.9,0.5,,1{',' if text else ''}\n")
    assert list(read_trials(params).edge) == [""]
