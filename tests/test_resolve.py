"""What each model is trained with: a parameter changes the files of the models it concerns."""

import json
from pathlib import Path

import pytest

import resolve

ALL = {"um", "at", "alp", "kurakin", "trades", "mma", "vib", "at-norm", "tla-sa", "tla-b1",
       "tla-b30", "tla-b100", "tla-b1000", "tla"}
SWEPT = {"tla-b1", "tla-b30", "tla-b100", "tla-b1000"}


@pytest.fixture
def written(write_params, tmp_path, monkeypatch):
    """The files that `resolve` writes under changed parameters: model -> text."""
    monkeypatch.chdir(tmp_path)

    def write(changes):
        resolve.main([str(write_params(changes))])
        files = Path("reports", "digits", "parameters").iterdir()
        return {file.stem: file.read_text() for file in files}
    return write


@pytest.mark.parametrize(("changes", "concerned"), [
    ({}, set()),
    ({"mining.batch": 256}, {"tla"}),
    ({"methods.tla-sa.mining_batch": 256}, {"tla-sa"}),
    ({"methods.tla.lambda1": 0.25}, {"tla"} | SWEPT),
    ({"methods.tla.margin_class": 0.25}, {"tla"} | SWEPT),
    ({"methods.tla-sa.lambda1": 0.25}, {"tla-sa"}),
    ({"methods.alp.weight": 0.25}, {"alp"}),
    ({"methods.kurakin.adversarial_weight": 0.25}, {"kurakin"}),
    ({"methods.trades.beta": 0.25}, {"trades"}),
    ({"methods.mma.d_max": 0.35}, {"mma"}), ({"methods.vib.beta": 0.25}, {"vib"}),
    ({"methods.at-norm.lambda2": 0.25}, {"at-norm"}),
    ({"clean_selection": ["um", "at"]}, {"um", "at"}),
    ({"methods.um.lr": 0.25}, {"um"}), ({"methods.at.lr": 0.25}, {"at"}),
    ({"methods.alp.lr": 0.25}, {"alp"}), ({"methods.at-norm.lr": 0.25}, {"at-norm"}),
    ({"methods.tla.lr": 0.25}, {"tla"} | SWEPT), ({"methods.tla-sa.lr": 0.25}, {"tla-sa"}),
    ({"train.epochs": 9}, ALL), ({"train.selection.pgd.restarts": 1}, ALL),
    ({"attack.eps": 0.25}, ALL), ({"attack.rel_step_size": 0.5}, ALL),
    ({"model.widths": [9, 8]}, ALL), ({"data.split_seed": 9}, ALL), ({"seeds": [0, 1, 3]}, ALL),
    ({"evaluate.batch": 9}, set()), ({"evaluate.sample_seed": 9}, set()),
    ({"evaluate.images": {"cw": 9}}, set()), ({"evaluate.draws.attack": 9}, set()),
    ({"evaluate.attacks.mim.steps": [9]}, set()),
    ({"textbook.steps": 9, "hop_skip.images": 9, "masking.images": 9, "transfer.images": 9,
      "detect.steps": 9, "neighbors.k": 9, "represent.images": 29, "ood.images": 9,
      "compare.seed": 9, "tune.seeds": [0]}, set()),
], ids=lambda value: next(iter(value), "none") if isinstance(value, dict) else "")
def test_a_parameter_changes_exactly_the_models_that_it_concerns(changes, concerned, written):
    before, after = written({}), written(changes)
    assert before.keys() == after.keys() == ALL
    assert {name for name in ALL if before[name] != after[name]} == concerned


def test_another_order_of_the_models_changes_none(written, raw_params):
    assert written({}) == written({"models": raw_params["models"][::-1]})


def test_a_file_says_what_the_model_is_trained_with(written, raw_params):
    known = json.loads(written({"mining.batch": 77})["tla"])
    assert known["method"] == "tla" and known["mining_batch"] == 77
    assert known["parameters"] == raw_params["methods"]["tla"]
    for section in ("dataset", "seeds", "data", "model", "attack", "train"):
        assert known[section] == raw_params[section]


def test_no_two_models_are_trained_with_the_same(written):
    texts = written({})
    assert len(set(texts.values())) == len(texts)
