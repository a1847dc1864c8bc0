"""Images that an attack broke: those of its rows, looked at without running it again."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from small_study import Answers

import evaluate
from tla.files import read_arrays, read_rows, write_arrays
from tla.measure.broken import IMAGES, columns_and_images
from tla.measure.draws import Stochastic
from tla.measure.suite import attack_columns
from tla.params import Draws, Precision
from tla.train.bottleneck import Bottleneck
from tla.train.data import TEST

EPS, ROUNDING = 0.15, 0.51 / 255


def kept_of(study, changes=None):
    """Parameters, the images kept of the model `at`, and the suite's rows on the first seed."""
    stage = study.stage(changes)
    evaluate.main(["params.yaml", "--model", "at"])
    rows = read_rows(stage.rows / "at" / "suite.csv.gz")
    return stage, read_arrays(stage.rows / "at" / "broken.npz"), rows[rows.seed == 0]


def test_the_images_are_those_that_the_rows_call_broken(study):
    stage, found, rows = kept_of(study)
    broken = rows[rows["pgd-restarts_last"] == 0].set_index("idx")
    assert 0 < len(broken) < len(rows)
    assert found["idx"].tolist() == broken.index.tolist()
    assert found["label"].tolist() == broken.label.tolist()
    assert found["pred"].tolist() == broken["pgd-restarts_pred"].tolist()
    assert {name: found[name].dtype for name in ("x", "x_adv")} == dict.fromkeys(
        ("x", "x_adv"), np.uint8)
    test = stage.test(0, None)
    place = [test.idx.tolist().index(idx) for idx in found["idx"]]
    assert (found["x"] == (255 * test.x[place]).round().byte().numpy()).all()
    change = np.abs(found["x_adv"] / 255 - test.x[place].numpy()).reshape(len(place), -1).max(1)
    assert change == pytest.approx(broken["pgd-restarts_linf"].to_numpy(), abs=ROUNDING)


def test_no_more_are_kept_than_the_parameters_say_and_the_first_ones(study):
    _, found, rows = kept_of(study, {"evaluate.broken": {"attack": "fgsm", "images": 3}})
    assert found["idx"].tolist() == rows.idx[rows["fgsm_last"] == 0].tolist()[:3]


def test_where_nothing_breaks_nothing_is_kept_and_the_file_is_there(study):
    _, found, rows = kept_of(study, {"attack.eps": 0.0})
    wrong = rows.idx[rows.clean == 0].tolist()
    assert found["idx"].tolist() == wrong and found["x_adv"].shape == (len(wrong), 1, 8, 8)
    assert (found["x_adv"] == found["x"]).all()


def test_rows_are_the_same_whether_images_are_kept_or_not(study):
    """And what was kept of the other seeds and attacks holds, whichever attack is looked at."""
    kept_of(study)
    before, path = study.again(), Path("data/digits/rows/at/suite.csv.gz")
    rows = path.read_bytes()
    kept_of(study, {"evaluate.broken": {"attack": "mim", "images": 5}})
    assert path.read_bytes() == rows and len(before) > 30
    assert study.again() == ["seed-0 suite-mim", "seed-0 suite-pgd-restarts"]


@pytest.mark.parametrize("precision", [Precision("float32", 0), Precision("bfloat16", 1)], ids=str)
@pytest.mark.parametrize("stochastic", [False, True])
def test_the_images_are_what_the_attack_returned(stochastic, precision, network, dataset,
                                                 plain_attack):
    """Of every kind of network, and the network is left as it was."""
    model = copy.deepcopy(network).float()
    if stochastic:
        model = Stochastic(Bottleneck(model, draws=2, seed=0).eval(), Draws(3, 4), seed=0)
    split, settings = dataset.split(0, TEST), {
        "name": "pgd", "attack": plain_attack(random_start=True, restarts=2), "eps": EPS,
        "precision": precision, "batch": 64, "seed": 0}
    found = columns_and_images(model, split, **settings)
    plain = attack_columns(model, split, **settings)
    images = found.pop(IMAGES)
    assert list(found) == list(plain) and all(found[name].equal(plain[name]) for name in plain)
    assert not model._forward_pre_hooks
    change = (images / 255 - split.x).abs().flatten(1).amax(1)
    assert change.tolist() == pytest.approx(plain["pgd_linf"].tolist(), abs=ROUNDING)
    assert (change > EPS / 2).any()


def test_an_attack_that_fails_leaves_the_network_as_it_was(network, dataset, plain_attack):
    model = Answers(copy.deepcopy(network).float(), lambda z: z * torch.nan)
    with pytest.raises(ValueError, match="finite"):
        columns_and_images(model, dataset.split(0, TEST), name="pgd", attack=plain_attack(),
                           eps=EPS, precision=Precision("float32", 0), batch=64, seed=0)
    assert not model._forward_pre_hooks


def test_more_images_than_one_batch_are_refused(network, dataset, plain_attack):
    with pytest.raises(ValueError, match="one batch"):
        columns_and_images(copy.deepcopy(network).float(), dataset.split(0, TEST), name="pgd",
                           attack=plain_attack(), eps=EPS, precision=Precision("float32", 0),
                           batch=30, seed=0)


def test_every_slice_of_the_job_is_one_batch(study):
    """A batch smaller than the images cuts the job, and all of its images are kept."""
    _, found, rows = kept_of(study, {"evaluate.batch": 15})
    assert found["idx"].tolist() == rows.idx[rows["pgd-restarts_last"] == 0].tolist()


def test_only_the_first_seed_of_the_attack_that_is_named_hands_over_images(make_params):
    params = make_params({"evaluate.broken": {"attack": "cw", "images": 7}})
    jobs = [job for job in evaluate.suite_jobs(params, params.seeds)
            if job.function is columns_and_images]
    assert [(job.name, job.seed) for job in jobs] == [("suite-cw", params.seeds[0])]


def test_arrays_come_back_and_equal_ones_are_equal_bytes(tmp_path):
    arrays = {"idx": np.arange(3), "x": np.zeros((3, 1, 2, 2), np.uint8)}
    write_arrays(tmp_path / "a.npz", arrays)
    write_arrays(tmp_path / "b" / "a.npz", arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b" / "a.npz").read_bytes()
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    assert all((found[name] == arrays[name]).all() for name in arrays)


