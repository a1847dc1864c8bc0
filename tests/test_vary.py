"""The stage vary on a small study: what it trains, what it attacks, and what it keeps."""

import pickle
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import train
import vary
from tla.files import read_rows
from tla.measure.stage import Stage
from tla.params import UserError
from tla.train.checkpoints import model_path
from tla.train.data import VALIDATION
from tla.train.training import Trainer

ATTACKS = {"pgd": 6, "pgd-restarts": 10}
VARIANTS = {
    "study": {"models": ["at", "tla"], "seeds": [0, 1], "changes": {}},
    "one-seed": {"models": ["at"], "seeds": [1], "changes": {}},
    "smoothed": {"models": ["tla"], "seeds": [0, 1], "changes": {"train.label_smoothing": 0.1}},
    "wide": {"models": ["at"], "seeds": [0], "changes": {"model.widths": [32, 8]}}}
CHANGES = {"train.epochs": 2, "train.validate_every": 1, "mining.batch": 16, "attack.steps": 2,
           "variants.attacks": ATTACKS, "variants.trained": VARIANTS,
           "evaluate.images": ATTACKS | {"autoattack": 3, "square": 8}}


@pytest.fixture
def study(study, monkeypatch):
    monkeypatch.setattr(train, "map_parallel", study._one_by_one)
    return study


@pytest.fixture
def run(study):
    """Runs one variant of the study under further changes; returns its stage's rows, by name."""
    def run_variant(name, changes=None):
        params = study.params(CHANGES | (changes or {}))
        vary.main([params.config, "--variant", name])
        folder = Stage(params).rows / "variants" / name
        return {file: read_rows(folder / f"{file}.csv.gz") for file in ("suite", "cost")}
    return run_variant


def weights(params, model, seed, within=""):
    return load_file(model_path(params, model, seed, within))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_variant_without_changes_has_the_weights_and_rows_of_the_study(study, run):
    rows = run("study")["suite"]
    params = study.params(CHANGES)
    for model in ("at", "tla"):
        train.main([params.config, "--model", model])
        for seed in params.seeds:
            own = weights(params, model, seed)
            assert same(own, weights(params, model, seed, "variants/study"))
        variant = params.variants.trained["study"]
        expected = vary.measured(Stage(params), model, vary.jobs(params, variant))
        found = rows[rows.model == model].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected.reset_index(drop=True), check_dtype=False)
    assert rows["pgd-restarts_last"].mean() < rows.clean.mean()


def test_a_change_concerns_the_models_that_it_names(study, run):
    rows = run("smoothed")
    params = study.params(CHANGES)
    assert set(rows["suite"].model) == set(rows["cost"].model) == {"tla"}
    assert [path.name for path in (Stage(params).path("tla", 0).parents[1] / "variants" /
                                   "smoothed").iterdir()] == ["tla"]
    run("study")
    smoothed, plain = (weights(params, "tla", 0, f"variants/{name}")
                       for name in ("smoothed", "study"))
    assert smoothed.keys() == plain.keys() and not same(smoothed, plain)


def test_models_of_clean_selection_are_trained_so_by_the_study_and_its_variants(study, run):
    """At this eps every image breaks; the log of one that is chosen so says nothing of that."""
    changes = {"clean_selection": ["um"], "attack.eps": 1.0, "variants.trained": {
        "both": {"models": ["um", "at"], "seeds": [0], "changes": {}}}}
    run("both", changes)
    params, logs = study.params(CHANGES | changes), Path("reports/digits/training")
    for model in ("um", "at"):
        train.main([params.config, "--model", model])
        own, varied = pd.read_csv(logs / f"{model}.csv"), pd.read_csv(logs / "variants/both.csv")
        for log in (own, varied[varied.model == model]):
            alike = log.validation_robust_accuracy == log.validation_clean_accuracy
            assert alike.all() == (model == "um")


def test_a_change_reaches_the_network(study, run):
    run("wide")
    found = weights(study.params(CHANGES), "at", 0, "variants/wide")
    assert found["head.weight"].shape == (10, 8)


def test_every_attack_sees_its_sample_and_the_clean_images_are_those_of_the_largest(study, run):
    rows, stage = run("study")["suite"], Stage(study.params(CHANGES))
    for (_, seed), part in rows.groupby(["model", "seed"]):
        assert part.idx.tolist() == stage.test(seed, 10).idx.tolist()
        for attack, images in ATTACKS.items():
            seen = part.idx[part[f"{attack}_pred"].notna()]
            assert seen.tolist() == stage.test(seed, images).idx.tolist()
    assert set(rows.seed) == {0, 1}


def test_a_seed_keeps_its_own_images_where_a_variant_has_not_all_seeds(study, run):
    both, one = run("study")["suite"], run("one-seed")["suite"]
    expected = both[(both.model == "at") & (both.seed == 1)].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, expected)


def test_the_compute_of_a_training_is_counted(run):
    """64 pixels, 24, 16 and 10 units; 2 epochs of 128 // 64 steps; 2 attack steps, and the loss."""
    cost = run("study")["cost"].set_index("model")
    assert (cost.multiply_adds == 64 * 24 + 24 * 16 + 16 * 10).all() and (cost.steps == 4).all()
    assert cost.loc["at", ["images", "forward", "backward"]].tolist() == [64, 3 * 64, 3 * 64]
    assert cost.forward["tla"] == 5 * 64 + 16       # clean twins, negatives, the pool


def test_the_log_has_a_line_an_epoch_and_no_time(run, study):
    run("study")
    log = pd.read_csv(Stage(study.params(CHANGES)).reports / "training" / "variants" / "study.csv")
    assert log.groupby(["model", "seed"]).epoch.apply(list).tolist() == [[1, 2]] * 4
    assert not [column for column in log if "time" in column or "second" in column]


def test_a_finished_variant_is_not_trained_or_attacked_again(study, run, monkeypatch):
    first = run("study")["suite"]
    study.again()
    monkeypatch.setattr(Trainer, "epoch", None)
    pd.testing.assert_frame_equal(run("study")["suite"], first)
    assert study.again() == []


def test_another_attack_trains_nothing_and_runs_alone(study, run, monkeypatch):
    run("study")
    study.again()
    monkeypatch.setattr(Trainer, "epoch", None)
    rows = run("study", {"variants.attacks": ATTACKS | {"mim": 10}})["suite"]
    assert study.again() == ["seed-0 suite-mim", "seed-0 suite-mim", "seed-1 suite-mim",
                             "seed-1 suite-mim"]
    assert rows.mim_last.notna().all()


def test_a_pilot_sees_validation_images_and_no_other(study, run):
    rows = run("study", {"variants.part": "validation"})["suite"]
    for position, (_, own) in enumerate(rows.groupby("seed")):
        held = Stage(study.params(CHANGES)).data.split(position, VALIDATION)
        assert set(own.idx) <= set(held.idx.tolist()) and own["pgd-restarts_last"].notna().all()


def test_an_interrupted_variant_continues_to_the_same_rows(run, monkeypatch, tmp_path):
    epoch, ran = Trainer.epoch, []

    def interrupted(self):
        if len(ran) == 3:       # in the middle of the second training
            raise KeyboardInterrupt
        ran.append(epoch(self))

    monkeypatch.setattr(Trainer, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("study")
    assert not list(tmp_path.glob("data/digits/rows/**/*.gz"))
    ran.clear()
    monkeypatch.setattr(Trainer, "epoch", lambda self: ran.append(epoch(self)))
    continued = run("study")["suite"]
    assert len(ran) == 8 - 3
    for state in tmp_path.glob("data/unfinished/*"):
        state.unlink()
    pd.testing.assert_frame_equal(run("study")["suite"], continued)


def test_a_worker_elsewhere_opens_the_place_of_the_variant(study):
    stage = pickle.loads(pickle.dumps(Stage(study.params(CHANGES), "variants/wide")))
    assert stage.path("at", 0).parts[-4:-1] == ("variants", "wide", "at")


@pytest.mark.parametrize("name", ["stud", "at"])
def test_another_variant_than_the_studys_is_refused_in_one_line(name, study):
    params = study.params(CHANGES)
    with pytest.raises(UserError, match="one-seed, smoothed, study, wide") as refused:
        vary.main([params.config, "--variant", name])
    assert repr(name) in str(refused.value) and "\n" not in str(refused.value)
