"""params.yaml: the real one loads, and every broken variant ends with one line that names file, key and value."""

import dataclasses

import pytest
from conftest import PARAMS

from tla.params import METHODS, ModelId, UserError, load_params, model_names, parse_model


def refusal(path):
    with pytest.raises(SystemExit) as refused:
        load_params(path)
    assert isinstance(refused.value, UserError)
    message = str(refused.value)
    assert "\n" not in message and str(path) in message
    return message


def test_the_real_file_loads_with_every_key_it_holds(raw_params):
    """Through the dataclasses and back, nothing is lost, added or converted."""
    assert dataclasses.asdict(load_params(PARAMS)) == raw_params


def test_parameters_cannot_be_changed(params):
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.attack.eps = 0.5


@pytest.mark.parametrize(("key", "value"), [
    ("atack", 3), ("data.fold", 5), ("methods.mart", 1), ("methods.um.weight", 0.5), ("methods.tla.lambda3", 0.1),
    ("evaluate.attacks.pgd.norm", "l2"), ("train.selection.pgd.seed", 1),
], ids=str)
def test_an_unknown_key_is_refused(key, value, write_params):
    message = refusal(write_params({key: value}))
    assert key in message and repr(value) in message


@pytest.mark.parametrize("changes", [
    {"evaluate.attacks.pgd.steps": [400]}, {"evaluate.attacks.cw.steps": [20, 100]}], ids=str)
def test_budgets_that_the_report_could_not_name_are_refused(changes, write_params):
    assert "budgets" in refusal(write_params(changes))


@pytest.mark.parametrize("key", [
    "seeds", "mining", "methods.um", "methods.tla", "data.folds", "attack.eps", "train.lr", "evaluate.attacks",
    "evaluate.attacks.pgd.decay", "methods.tla-sa.mining_batch", "data.limit"])
def test_a_missing_key_is_refused(key, write_params):
    message = refusal(write_params({key: ...}))
    assert f"{key}:" in message and "required" in message


@pytest.mark.parametrize(("key", "value"), [
    ("attack.eps", "0.1"), ("attack.eps", True), ("attack.eps", None), ("attack.eps", [0.1]), ("train.lr", "1e-3"),
    ("train.epochs", 3.0), ("train.epochs", "3"), ("train.epochs", True), ("mining.batch", 30.0), ("seeds", 3),
    ("model.widths", 16), ("evaluate.attacks.pgd.random_start", 1), ("evaluate.attacks.pgd.random_start", "true"),
    ("evaluate.attacks.pgd.steps", 20), ("data", 5), ("methods.um", None), ("root", 1),
], ids=str)
def test_a_value_of_another_type_is_refused(key, value, write_params):
    message = refusal(write_params({key: value}))
    assert f"{key}:" in message and repr(value) in message


@pytest.mark.parametrize(("key", "value"), [
    ("attack.eps", -0.1), ("attack.eps", 1.5), ("attack.eps", float("nan")), ("attack.eps", float("inf")),
    ("attack.step_size", 0.0), ("attack.steps", 0), ("mining.batch", 0), ("mining.batch", -1),
    ("ablation.batches", [1, 2, 3]), ("train.lr", float("nan")), ("train.lr", 0.0), ("train.weight_decay", -1e-4),
    ("train.label_smoothing", 1.1), ("train.optimizer", "lamb"), ("train.schedule", "step"),
    ("train.validate_every", 0),
    ("model.architecture", "vgg"), ("model.widths", []), ("model.std", [0.0]), ("data.folds", 1),
    ("data.validation", 1.0), ("data.validation", 0), ("data.limit.train", 0), ("data.source", "cifar100"),
    ("dataset", "CIFAR 10"), ("seeds", []), ("seeds", [-1]),
    ("methods.tla.lambda1", -0.5), ("methods.tla.lambda2", -0.5), ("methods.alp.weight", -1.0),
    ("methods.alp.pair", "pixels"), ("methods.tla.margin_twin", 0.0), ("methods.kurakin.adversarial_share", 1.0),
    ("methods.at-norm.lambda2", float("inf")), ("evaluate.attacks", {}), ("evaluate.attacks.pgd.loss", "hinge"),
    ("evaluate.attacks.pgd.momentum", "nesterov"), ("evaluate.attacks.pgd.loss", "hinge"),
    ("evaluate.attacks.pgd.steps", []), ("evaluate.attacks.pgd.restarts", 0), ("compare.resamples", 0),
    ("detect.covariance", "round"),
], ids=str)
def test_a_value_out_of_range_is_refused(key, value, write_params):
    message = refusal(write_params({key: value}))
    assert f"{key}" in message and (repr(value) in message or repr(value).strip("[]") in message)


def test_budgets_that_do_not_increase_are_refused(write_params):
    """Otherwise the attack refuses them, after the hours of training before it."""
    assert "evaluate.attacks.pgd.steps" in refusal(write_params({"evaluate.attacks.pgd.steps": [400, 20]}))


def test_attacks_that_the_report_shows_must_be_there(write_params):
    assert "mim" in refusal(write_params({"evaluate.attacks.mim": ...}))


def test_only_attacks_that_are_listed_can_be_capped(write_params):
    assert "pgd-restart" in refusal(write_params({"evaluate.capped": {"pgd-restart": 100}}))


def test_a_seed_listed_twice_is_refused(write_params):
    """The files of a model are named by its seed, so the second training would overwrite the first."""
    assert "seeds" in refusal(write_params({"seeds": [0, 1, 1]}))


def test_all_broken_keys_are_counted(write_params):
    message = refusal(write_params({"attack.eps": -1.0, "mining.batch": 0, "train.lr": "fast"}))
    assert "attack.eps" in message and "2 more" in message


@pytest.mark.parametrize("text", ["", "a: [1\nb: 2", "- 1\n- 2", "7"], ids=["empty", "not YAML", "a list", "a number"])
def test_a_file_that_holds_no_parameters_is_refused(text, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    refusal(path)


def test_a_missing_file_is_refused(tmp_path):
    refusal(tmp_path / "params.yaml")


# Names of models

@pytest.mark.parametrize(("name", "model"), [
    ("um", ModelId("um", None)), ("at", ModelId("at", None)), ("alp", ModelId("alp", None)),
    ("kurakin", ModelId("kurakin", None)), ("at-norm", ModelId("at-norm", None)), ("tla-b1", ModelId("tla", 1)),
    ("tla-b300", ModelId("tla", 300))])
def test_a_good_name_is_a_method_and_a_pool(name, model, params):
    assert parse_model(name, params) == model


def test_tla_sa_has_a_pool_of_its_own(make_params):
    params = make_params({"methods.tla-sa.mining_batch": 77, "mining.batch": 50})
    assert parse_model("tla-sa", params).batch == 77


@pytest.mark.parametrize("name", [
    "", "tla", "tla-b", "tla-b0", "tla-b-1", "tla-b3.0", "tla-b030", "tla-b30 ", "tla-b30\n", "TLA-b30", "at-b30",
    "tla-sa-b30", "mart"], ids=repr)
def test_a_bad_name_is_refused_with_the_choices(name, params):
    with pytest.raises(UserError) as refused:
        parse_model(name, params)
    message = str(refused.value)
    assert "\n" not in message and repr(name) in message
    assert all(method in message for method in METHODS)


def test_a_name_survives_parsing(params):
    assert [str(parse_model(name, params)) for name in model_names(params)] == model_names(params)


@pytest.mark.parametrize("changes", [
    {}, {"mining.batch": 30}, {"mining.batch": 256}, {"ablation.batches": [1, 30, 30, 300, 1000]}], ids=str)
def test_every_model_is_named_once_with_the_current_tla_last(changes, make_params):
    params = make_params(changes)
    names = model_names(params)
    assert len(set(names)) == len(names)
    assert names[-1] == f"tla-b{params.mining.batch}"
    swept = {f"tla-b{pool}" for pool in params.ablation.batches}
    assert set(names) == {m for m in METHODS if m != "tla"} | swept | {names[-1]}
