"""params.yaml: the real one loads; a broken one ends a script in a line that names the key."""

import dataclasses

import pytest
import refusals
from conftest import PARAMS

import resolve
from tla.params import Attack, load_params
from tla.train.methods import load_study


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refusal(path):
    """What the first script of a study says of its parameters."""
    message = refusals.refusal(resolve.main, path.name)
    assert message.startswith(f"{path.name}: ")
    return message.removeprefix(f"{path.name}: ")


def test_the_real_file_loads_with_every_key_it_holds(raw_params):
    """Through the dataclasses and back, also those of the methods, nothing is lost or converted."""
    assert dataclasses.asdict(load_params(PARAMS)) == raw_params
    assert dataclasses.asdict(load_study(PARAMS)) == raw_params


def test_parameters_cannot_be_changed(params):
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.attack.eps = 0.5


@pytest.mark.parametrize(("key", "value"), [
    ("atack", 3), ("data.fold", 5), ("train.lr", 0.01), ("attack.step_size", 0.1),
    ("evaluate.capped", 1), ("train.selection.pgd.seed", 1), ("transfer.attack.norm", "l2"),
    ("tune.attacks.cw.norm", "l2")], ids=str)
def test_an_unknown_key_is_refused(key, value, write_params):
    message = refusal(write_params({key: value}))
    assert f"{key}:" in message and repr(value) in message


@pytest.mark.parametrize("changes", [
    {"evaluate.attacks.pgd.steps": [400]}, {"evaluate.attacks.cw.steps": [20, 100]}], ids=str)
def test_budgets_that_the_report_could_not_name_are_refused(changes, write_params):
    assert "budgets" in refusal(write_params(changes))


@pytest.mark.parametrize("key", [
    "seeds", "models", "methods", "mining", "data.folds", "attack.eps", "train.batch",
    "evaluate.attacks", "evaluate.images", "data.limit", "train.selection.pgd.decay",
    "hop_skip.iterations", "transfer.attack.decay", "represent.models"])
def test_a_missing_key_is_refused(key, write_params):
    message = refusal(write_params({key: ...}))
    assert f"{key}:" in message and "required" in message


@pytest.mark.parametrize(("key", "value"), [
    ("attack.eps", "0.1"), ("attack.eps", True), ("attack.eps", None), ("attack.eps", [0.1]),
    ("train.momentum", "1e-3x"), ("train.epochs", 3.0), ("train.epochs", "3"),
    ("train.epochs", True), ("mining.batch", 30.0), ("seeds", 3), ("models", "tla"),
    ("model.widths", 16), ("train.selection.pgd.random_start", 1),
    ("train.selection.pgd.random_start", "true"),
    ("train.selection.pgd.steps", 20), ("data", 5), ("methods", None), ("root", 1),
], ids=str)
def test_a_value_of_another_type_is_refused(key, value, write_params):
    message = refusal(write_params({key: value}))
    assert f"{key}:" in message and repr(value) in message


@pytest.mark.parametrize(("key", "value"), [
    ("attack.eps", -0.1), ("attack.eps", 1.5), ("attack.eps", float("nan")),
    ("attack.eps", float("inf")), ("attack.rel_step_size", 0.0), ("attack.steps", 0),
    ("mining.batch", 0), ("mining.batch", -1), ("train.weight_decay", float("nan")),
    ("train.weight_decay", -1e-4), ("train.label_smoothing", 1.1), ("train.optimizer", "lamb"),
    ("train.schedule", "step"), ("train.validate_every", 0), ("model.architecture", "vgg"),
    ("attack.mode", "eval"), ("train.selection_images.first", 0),
    ("model.widths", []), ("model.std", [0.0]), ("data.folds", 1), ("data.validation", 1.0),
    ("data.validation", 0), ("data.limit.train", 0), ("data.source", "cifar100"),
    ("dataset", "CIFAR 10"), ("seeds", []), ("seeds", [-1]), ("seeds", [0]),
    ("models", []), ("models", ["um", "at", "alp", "TLA"]), ("clean_selection", ["um", "um"]),
    ("clean_selection", ["TLA"]), ("clean_selection", None), ("tune.attacks", {}),
    ("train.selection.pgd.loss", "hinge"), ("train.selection.pgd.momentum", "nesterov"),
    ("train.selection.pgd.steps", []), ("train.selection.pgd.restarts", 0),
    ("train.selection.pgd.rel_step_size", 0.0), ("train.selection.pgd.kind", "square"),
    ("transfer.attack.loss", "hinge"), ("compare.resamples", 0), ("detect.covariance", "round"),
    ("evaluate.images", {"pgd": 0}), ("evaluate.seeds", {"square": []}),
], ids=str)
def test_a_value_out_of_range_is_refused(key, value, write_params):
    message = refusal(write_params({key: value}))
    assert f"{key}" in message
    while isinstance(value, list | dict) and value:
        *_, value = value.values() if isinstance(value, dict) else value
    assert repr(value) in message


def test_budgets_that_do_not_increase_are_refused(write_params):
    """Otherwise the attack refuses them, after the hours of training before it."""
    message = refusal(write_params({"evaluate.attacks.pgd.steps": [400, 20]}))
    assert "evaluate.attacks.pgd" in message and "steps" in message and "increase" in message


@pytest.mark.parametrize(("key", "value"), [
    ("pgd.loss", "hinge"), ("pgd.momentum", "nesterov"), ("cw.restarts", 0), ("cw.steps", []),
    ("pgd.decay", 1.5), ("pgd.decay", ...), ("pgd.random_start", 1), ("pgd.norm", "l2"),
    ("square.queries", 0), ("square.batch", 1), ("autoattack.batch", 0)], ids=str)
def test_the_refusal_of_a_broken_attack_of_the_suite_names_the_key_of_the_file(
        key, value, write_params):
    """Not one that the file does not have, such as evaluate.attacks.pgd.gradient.loss."""
    assert f"evaluate.attacks.{key}:" in refusal(write_params({f"evaluate.attacks.{key}": value}))


@pytest.mark.parametrize("kind", ["gradients", ..., 3], ids=str)
def test_an_attack_of_no_kind_is_refused(kind, write_params):
    message = refusal(write_params({"evaluate.attacks.pgd.kind": kind}))
    assert "evaluate.attacks.pgd:" in message and "kind" in message


@pytest.mark.parametrize(("changes", "why"), [
    ({"momentum": "average", "decay": 1.0}, "never moves"),
    ({"restarts": 2, "random_start": False}, "repeat one run")], ids=str)
def test_an_attack_that_cannot_do_what_it_says_is_refused(changes, why, plain_attack):
    with pytest.raises(ValueError, match=why):
        plain_attack(**changes)
    assert isinstance(plain_attack(momentum="average", decay=0.9), Attack)
    assert isinstance(plain_attack(restarts=2, random_start=True), Attack)


def test_attacks_that_the_report_shows_must_be_there(write_params):
    assert "mim" in refusal(write_params({"evaluate.attacks.mim": ...}))


@pytest.mark.parametrize("name", ["autoattack", "square"])
def test_an_attack_that_the_report_reads_by_its_kind_must_be_of_it(name, write_params, raw_params):
    other = raw_params["evaluate"]["attacks"]["mim"]
    assert f"attacks.{name}" in refusal(write_params({f"evaluate.attacks.{name}": other}))


@pytest.mark.parametrize(("key", "value"), [("images", 100), ("seeds", [1])])
def test_only_attacks_that_are_listed_can_be_given_a_sample(key, value, write_params):
    """A misspelt name would let the attack see everything, for hours."""
    assert "pgd-restart'" in refusal(write_params({f"evaluate.{key}": {"pgd-restart": value}}))


@pytest.mark.parametrize(("changes", "why"), [
    ({"evaluate.broken.attack": "pgd-restart"}, "no gradient attack"),
    ({"evaluate.broken.attack": "square"}, "no gradient attack"),
    ({"evaluate.seeds": {"pgd-restarts": [1]}}, "does not see the first seed"),
    ({"evaluate.broken.images": 0}, "evaluate.broken.images")], ids=str)
def test_images_can_only_be_kept_of_a_gradient_attack_on_the_first_seed(changes, why, write_params):
    message = refusal(write_params(changes))
    assert why in message and "broken" in message


@pytest.mark.parametrize("seeds", [[0], [1, 9], [2, 3]], ids=str)
def test_an_attack_sees_the_seed_where_signs_of_masking_are_looked_for(seeds, write_params):
    message = refusal(write_params({"evaluate.seeds": {"autoattack": seeds}}))
    assert "evaluate.seeds.autoattack" in message


@pytest.mark.parametrize("key", ["models", "represent.models"])
@pytest.mark.parametrize("name", ["um", "at", "alp", "tla"])
def test_models_that_the_report_compares_must_be_there(key, name, write_params, raw_params):
    models = raw_params["models"] if key == "models" else raw_params["represent"]["models"]
    message = refusal(write_params({key: [model for model in models if model != name]}))
    assert f"{key}: the report needs these too: {name}" in message


def test_only_models_of_the_study_are_looked_into(write_params):
    models = ["um", "at", "alp", "tla", "tla-b77"]
    message = refusal(write_params({"represent.models": models}))
    assert "represent.models" in message and "tla-b77" in message


def test_a_model_listed_twice_is_refused(write_params, raw_params):
    """Its stage would stand in the graph twice."""
    assert "models" in refusal(write_params({"models": [*raw_params["models"], "at"]}))


def test_a_model_that_is_not_there_cannot_pick_its_checkpoint_clean(write_params):
    message = refusal(write_params({"clean_selection": ["um", "tla-b7"]}))
    assert "clean_selection" in message and "tla-b7" in message


def test_a_seed_listed_twice_is_refused(write_params):
    """Files of a model are named by its seed, so the second training would overwrite the first."""
    assert "seeds" in refusal(write_params({"seeds": [0, 1, 1]}))


def test_all_broken_keys_are_counted(write_params):
    message = refusal(write_params({"attack.eps": -1.0, "mining.batch": 0, "train.batch": "few"}))
    assert "attack.eps" in message and "2 more" in message


@pytest.mark.parametrize("section", ["train.selection", "tune.attacks"])
@pytest.mark.parametrize("changes", [
    {"loss": "margin_50"}, {"loss": "least_likely"}, {"momentum": "l1", "decay": 1.0},
    {"momentum": "average", "decay": 0.9}], ids=str)
def test_an_attack_that_chooses_has_no_momentum_and_one_of_two_losses(
        section, changes, raw_params, write_params):
    """The plain loop has neither: quietly run as plain PGD it would pick another checkpoint."""
    first, second = section.split(".")
    attacks = {name: attack | changes for name, attack in raw_params[first][second].items()}
    message = refusal(write_params({section: attacks}))
    assert section in message and all(str(value) in message for value in list(changes.values())[:1])
