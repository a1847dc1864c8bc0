"""The variants of a study: what is changed, what is written of it, and which are refused."""

import dataclasses
import json
from pathlib import Path

import pytest

import resolve
from tla.params import UserError
from tla.train.methods import load_study, variant_of

ONE = {"models": ["at", "tla"], "seeds": [0, 1], "changes": {}}
ALL = {"models": ["at", "alp", "tla"], "seeds": [0, 1], "changes": {}}
READING = {"says": "equal", "source": "ours", "tla": "one", "at": "one",
           "outcome": "pgd-restarts_last"}
ATTACKS = {"pgd": 40, "pgd-restarts": 20}


def with_one(changes, **values):
    """A study with one variant."""
    one = ONE | {"changes": changes} | values
    return {"variants.attacks": ATTACKS, "variants.trained": {"one": one}}


def refusal(path):
    with pytest.raises(UserError) as refused:
        load_study(path)
    message = str(refused.value)
    assert "\n" not in message and "params.yaml" in message
    return message


# What is changed

def test_a_variant_is_the_study_but_for_its_changes(make_params):
    changes = {"model.widths": [8, 4], "train.selection_images": {"part": "test", "first": 50},
               "methods.tla.margin_class": 0.3, "mining.batch": 7}
    params = make_params(with_one(changes))
    found, expected = (dataclasses.asdict(each) for each in (variant_of(params, "one"), params))
    expected["model"]["widths"], expected["mining"]["batch"] = [8, 4], 7
    expected["train"]["selection_images"] = {"part": "test", "first": 50}
    expected["methods"]["tla"]["margin_class"] = 0.3
    assert found.pop("variants") != expected.pop("variants")
    assert found == expected


def test_a_study_is_left_as_it_was(make_params):
    params = make_params(with_one({"model.widths": [8, 4]}))
    before = dataclasses.asdict(params)
    variant_of(params, "one")
    assert dataclasses.asdict(params) == before


# What is refused, when the study is loaded and not hours later

@pytest.mark.parametrize(("changes", "why"), [
    ({"train.lear": 0.1}, "train.lear: no such key"),
    ({"train.lr.peak": 0.1}, "train.lr.peak: no such key"),
    ({"model": {"widths": [3]}}, "required"),
    ({"methods.tlaa.lambda1": 1.0}, "methods.tlaa.lambda1: no such key"),
    ({"train.epochs": "3"}, "train.epochs"), ({"model.widths": [0]}, "model.widths.0"),
    ({"methods.tla.lambda1": -1.0}, "methods.tla.lambda1"),
    ({"attack.mode": "train"}, "attack.mode"),
    ({"train.selection_images": {"part": "train", "first": 3}}, "train.selection_images.part"),
    ({"seeds": [0]}, "seeds: only model, attack, train, methods, mining can be varied"),
    ({"data.validation": 0.5}, "data.validation: only"),
    ({"evaluate.batch": 5}, "evaluate.batch: only")], ids=str)
def test_a_bad_change_is_one_clear_line(changes, why, write_params):
    message = refusal(write_params(with_one(changes)))
    assert "variants.trained.one.changes" in message and why in message


@pytest.mark.parametrize(("values", "why"), [
    ({"models": ["at", "tlaa"]}, "variants.trained.one.models: not of the study: ['tlaa']"),
    ({"models": []}, "variants.trained.one.models"),
    ({"seeds": [0, 77]}, "variants.trained.one.seeds: not of the study: [77]"),
    ({"seed": [0]}, "variants.trained.one.seed")], ids=str)
def test_models_and_seeds_that_the_study_lacks_are_refused(values, why, write_params):
    assert why in refusal(write_params(with_one({}, **values)))


def scale(*series, outcome="pgd-restarts_last"):
    return {"outcome": outcome, "series": {"width": list(series)}, "authors": None}


def gain(**values):
    return {"mlp": {"equal": READING, "alone": [READING], "together": [READING | values]}}


OTHER = ONE | {"seeds": [0]}


@pytest.mark.parametrize(("changes", "why"), [
    ({"variants.attacks": {"pgdd": 3}}, "variants.attacks: not among evaluate.attacks: ['pgdd']"),
    ({"variants.attacks": {}}, "attacks: name one"),
    ({"variants.scale": scale("all", "two")}, "scale: 'two' is not among variants.trained"),
    ({"variants.scale": scale("one", "one")}, "stands twice"),
    ({"variants.scale": scale("one")}, "at least 2"),
    ({"variants.scale": scale("all", "one")}, "scale: alp is not among the models of 'one'"),
    ({"variants.scale": scale("all", "again", outcome="cw_last")}, "'cw_last' is no outcome"),
    ({"variants.scale": scale("all", "again", outcome="pgd_40_last")}, "'pgd_40_last' is no"),
    ({"variants.gain": gain(at="no")}, "gain.mlp: 'no' is not among variants.trained"),
    ({"variants.gain": gain(at="other")}, "gain.mlp: its variants need the same seeds"),
    ({"variants.gain": gain(outcome="pgd")}, "'pgd' is no outcome of its attacks"),
    ({"variants.gain": gain(under="pgd")}, "variants.gain.mlp.together.0.under")], ids=str)
def test_what_cannot_be_compared_is_refused(changes, why, write_params):
    trained = {"one": ONE, "other": OTHER, "all": ALL, "again": ALL}
    base = {"variants.attacks": ATTACKS, "variants.trained": trained}
    assert why in refusal(write_params(base | changes))


def test_a_study_needs_no_variants(params):
    assert params.variants.trained == {} and params.variants.scale is None


# What is written of them

@pytest.fixture
def written(write_params, tmp_path, monkeypatch):
    """What `resolve` writes of the variants: name -> text."""
    monkeypatch.chdir(tmp_path)

    def write(changes):
        resolve.main([str(write_params(changes))])
        folder = Path("reports", "digits", "parameters", "variants")
        return {file.stem: file.read_text() for file in folder.glob("*")}
    return write


SOME = {"variants.attacks": ATTACKS, "variants.trained": {
    "one": ONE, "wide": ONE | {"changes": {"model.widths": [300]}},
    "at-alone": ONE | {"models": ["at"]}}}


@pytest.mark.parametrize(("changes", "concerned"), [
    ({}, []), ({"mining.batch": 77}, ["one", "wide"]),
    ({"model.widths": [9, 8]}, ["at-alone", "one"]),
    ({"train.epochs": 77}, ["at-alone", "one", "wide"]), ({"methods.alp.weight": 0.77}, []),
    ({"seeds": [0, 1, 2, 3]}, []), ({"evaluate.attacks.mim.steps": [77]}, []),
    ({"evaluate.attacks.pgd.restarts": 7}, ["at-alone", "one", "wide"]),
    ({"evaluate.sample_seed": 77}, ["at-alone", "one", "wide"]),
    ({"variants.part": "validation"}, ["at-alone", "one", "wide"]),
    ({"evaluate.images": {"pgd": 77}}, [])], ids=str)
def test_a_parameter_changes_the_files_of_the_variants_that_it_concerns(
        changes, concerned, written):
    before, after = written(SOME), written(SOME | changes)
    assert sorted(before) == ["at-alone", "one", "wide"]
    assert sorted(name for name in before if before[name] != after[name]) == concerned


def test_a_file_has_the_changed_values_of_its_models(written):
    known = json.loads(written(SOME)["wide"])
    assert sorted(known["models"]) == ["at", "tla"]
    assert known["models"]["tla"]["model"]["widths"] == [300]
    assert known["variants.attacks"] == ATTACKS
    assert known["evaluate.attacks.pgd"]["steps"] == [20, 100, 400, 2000]
    assert known["places"] == {"0": 0, "1": 1}


def test_without_variants_nothing_is_written_of_them(written):
    assert written({}) == {}
