"""The stage represent on a small study: what it writes, and the same bytes on any threads."""

import dataclasses
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_study import edit
from threadpoolctl import threadpool_info, threadpool_limits

import represent
from tla.files import read_metrics, read_rows
from tla.measure import stage as measuring
from tla.measure import suite
from tla.measure.embedding import Normality, Outputs, plane
from tla.measure.frames import columns_of, frames_of
from tla.measure.pictures import read_tiles
from tla.measure.retrieval import retrieve
from tla.params import Aware, Detect
from tla.train.methods import load_study
from tla.train.stored import packed, read_tensors

AT = Path("reports/digits/represent/at")


@contextmanager
def threads(number):
    """So many threads for torch, and for numpy and scikit-learn."""
    torch.set_num_threads(number)
    try:
        with threadpool_limits(number):
            yield
    finally:
        torch.set_num_threads(1)


# Threads

@pytest.fixture(scope="module")
def vectors():
    """Embeddings large enough that two threads add them up in another order than one."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(4, 128)), 100, axis=0)
    return (centres + 0.7 * rng.normal(size=(400, 128))).astype(np.float32)


def test_two_threads_are_used_where_they_are_asked_for():
    """Otherwise nothing below is tested."""
    with threads(2):
        assert torch.get_num_threads() == 2
        pools = {pool["internal_api"]: pool["num_threads"] for pool in threadpool_info()}
        assert pools["openblas"] == 2 and pools["openmp"] == 2


def in_both(function):
    """What a function returns on one thread, and on two."""
    found = []
    for number in (1, 2):
        with threads(number):
            found.append(function())
    return found


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_scores_are_equal_on_any_threads(covariance, vectors):
    out = Outputs(np.zeros(400, int), np.linspace(0.1, 1, 400), vectors[::-1])
    settings = Detect([1.0], 0.1, 2, 10, 3, covariance, Aware(9, [1.0], 1))
    one, two = in_both(lambda: Normality(vectors, settings, 0).scores(out))
    assert list(one) == list(two)
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_neighbours_are_equal_on_any_threads(vectors):
    one, two = in_both(lambda: retrieve(vectors, vectors[::-1] + 0.01, 20))
    assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])


def test_the_plane_is_equal_on_any_threads(vectors, params):
    """t-SNE is chaotic: the last bit of a distance moves every point."""
    settings = dataclasses.replace(params.represent, iterations=300)
    one, two = in_both(lambda: plane(vectors, settings, 0))
    assert np.array_equal(one, two)


def test_numpy_and_scikit_learn_compute_on_one_thread(vectors, params, monkeypatch):
    """Whatever the caller has; and the caller has it back."""
    from sklearn.manifold import TSNE
    from sklearn.mixture import GaussianMixture
    seen = []

    def watch(kind, name, result):
        def watched(self, *_):
            seen.extend((name, pool["num_threads"]) for pool in threadpool_info())
            return result
        monkeypatch.setattr(kind, name, watched)

    watch(GaussianMixture, "fit", None)
    watch(GaussianMixture, "score_samples", np.zeros(400))
    watch(TSNE, "fit_transform", np.zeros((400, 2)))
    out = Outputs(np.zeros(400, int), np.ones(400), vectors)
    with threads(2):
        Normality(vectors, params.detect, 0).scores(out)
        plane(vectors, params.represent, 0)
        assert {pool["num_threads"] for pool in threadpool_info()} == {2}
    assert {name for name, _ in seen} == {"fit", "score_samples", "fit_transform"}
    assert {number for _, number in seen} == {1}


def written():
    """Every file of the stage and its content."""
    files = [*Path("data/digits/embedding").rglob("*.gz"), *Path("reports").rglob("*")]
    return {str(file): file.read_bytes() for file in files if file.is_file()}


def test_the_stage_writes_the_same_bytes_on_any_threads(study):
    study.stage()
    found = []
    for number in (1, 2):
        with threads(number):
            represent.main(["params.yaml", "--model", "at"])
        found.append(written())
        shutil.rmtree("reports")
        shutil.rmtree("data/digits/embedding")
    assert len(found[0]) == 10 and found[0] == found[1]


# What it writes

@pytest.fixture
def represented(study):
    """A stage whose model `at` was looked into, and a reader of its rows."""
    stage = study.stage()
    represent.main(["params.yaml", "--model", "at"])
    return stage, lambda name: read_rows(stage.embedding / "at" / f"{name}.csv.gz")


def test_rows_are_of_every_seed_and_its_test_images(represented):
    stage, read = represented
    detect, neighbors, ood = read("detect"), read("neighbors"), read("ood")
    assert list(detect)[:6] == ["seed", "eps_factor", "idx", "label", "linf", "clean_pred"]
    assert list(neighbors) == ["seed", "idx", "label", "linf", "clean_pred", "clean_knn",
                               "clean_precision", "adv_pred", "adv_knn", "adv_precision"]
    assert list(ood) == ["seed", "source", "softmax", "neighbors", "mixture"]
    for seed in (0, 1):
        idx = stage.test(seed, None).idx.tolist()
        assert neighbors[neighbors.seed == seed].idx.tolist() == idx
        assert detect[detect.seed == seed].idx.tolist() == 3 * idx
        assert ood[ood.seed == seed].source.tolist() == [
            name for name in ("test", "noise", "photos") for _ in range(10)]
        few, aware, mismatch = stage.test(seed, 30).idx.tolist(), read("aware"), read("mismatch")
        assert aware[aware.seed == seed].idx.tolist() == 2 * few
        assert mismatch[mismatch.seed == seed].idx.tolist() == few
    linf = detect.groupby("eps_factor").linf.max()
    assert linf.max() <= 1.5 * 0.15 + 1e-6 and linf.is_monotonic_increasing
    assert 0.1 < neighbors.linf.max() <= 0.15 + 1e-6


def test_the_test_images_of_ood_are_a_sample_and_not_the_first(represented):
    stage, read = represented
    ood, detect = read("ood"), read("detect")
    clean = detect[(detect.seed == 0) & (detect.eps_factor == 1.0)].set_index("idx")
    sample = clean.loc[stage.test(0, 10).idx.tolist()]
    found = ood[(ood.seed == 0) & (ood.source == "test")]
    assert found.mixture.tolist() == pytest.approx(sample.clean_mixture.tolist(), rel=1e-4)
    assert found.mixture.tolist() != pytest.approx(clean.clean_mixture[:10].tolist(), rel=1e-4)


def test_metrics_are_means_over_the_rows(represented):
    stage, read = represented
    rows = read("neighbors")
    metrics = read_metrics(stage.reports / "metrics" / "represent-at.json")
    for kind in ("clean", "adv"):
        right = (rows[f"{kind}_knn"] == rows.label).mean()
        precision = rows[f"{kind}_precision"].mean()
        assert metrics[f"{kind}_knn_accuracy"] == pytest.approx(right, abs=5.1e-5)
        assert metrics[f"{kind}_precision_at_10"] == pytest.approx(precision, abs=5.1e-5)
        same, other = (metrics[f"{kind}_{which}_class_distance"] for which in ("same", "other"))
        assert 0 <= same < other <= 1
    assert len(metrics) == 8


def test_pictures_are_of_the_first_seed_and_of_the_sample(represented):
    stage, _ = represented
    captions, tsne = pd.read_csv(AT / "neighbors.csv"), pd.read_csv(AT / "tsne.csv")
    test = stage.test(0, None)
    queries = np.unique(test.y.numpy())[:6]
    assert captions["query"].tolist() == queries.tolist()
    pixels = read_tiles(AT / "neighbors.png", len(queries), 5)
    first = [test.y.tolist().index(label) for label in queries]
    assert (pixels[:, 0] == (255 * test.x[first, 0]).round().numpy()).all()
    away = np.abs(pixels[:, 1] / 255 - test.x[first, 0].numpy())
    assert 0.1 < away.max() <= 0.15 + 1 / 255

    sample = stage.test(0, 20)
    assert tsne.kind.tolist() == ["clean"] * 20 + ["adv"] * 20
    assert tsne.idx.tolist() == 2 * sample.idx.tolist()
    assert tsne.label.tolist() == 2 * sample.y.tolist()
    with torch.no_grad():
        expected = stage.network("at", 0)(sample.x)[0].argmax(1)
    assert tsne.pred[:20].tolist() == expected.tolist()


def test_the_loss_surface_is_of_the_second_seed(represented):
    stage, _ = represented
    planes, few = pd.read_csv(AT / "surface.csv"), stage.test(1, stage.params.masking.surfaces)
    assert planes.idx.drop_duplicates().tolist() == few.idx.tolist()
    assert len(planes) == len(few.y) * stage.params.masking.points ** 2
    assert planes.gradient.max() == pytest.approx(0.15)


def test_adversarial_queries_pass_the_referee(study, monkeypatch):
    study.stage()
    honest = suite.run_attack
    monkeypatch.setattr(
        suite, "run_attack", lambda *a, eps, **settings: honest(*a, eps=2 * eps, **settings))
    with pytest.raises(ValueError, match="more than eps"):
        represent.main(["params.yaml", "--model", "at"])


# What is kept

LOOKS = [f"seed-0 represent-{look}" for look in ("detected", "points", "retrieved")]
LOOKS += [f"seed-1 represent-{look}" for look in ("detected", "planes", "retrieved")]


def test_nothing_is_looked_at_again_and_the_files_are_equal(study):
    study.stage()
    represent.main(["params.yaml", "--model", "at"])
    before = written()
    assert study.again() == LOOKS
    shutil.rmtree("reports")
    represent.main(["params.yaml", "--model", "at"])
    assert study.again() == [] and written() == before


@pytest.fixture
def looked(study):
    """Whether a look at a seed of `at` is taken in another run, after a first one."""
    def look(stage, model, seed):
        return {"table": pd.DataFrame({"seed": [seed]})}

    def again(seed=0):
        stage = measuring.Stage(load_study("params.yaml"))
        represent.looked(stage, "at", seed, look)
        return bool(study.again())

    again.study, again.params = study, study.stage().params
    assert again(0) and again(1) and not again(0)
    return again


def test_other_weights_are_looked_at_again(looked):
    looked.study.save(looked.params, "at", 1, 0.3)
    assert looked(1) and not looked(0)


@pytest.mark.parametrize("change", [
    {"attack.eps": 0.1}, {"evaluate.batch": 7}, {"evaluate.draws.attack": 7},
    {"evaluate.sample_seed": 1}, {"masking.points": 4}, {"detect.steps": 2}, {"neighbors.k": 5},
    {"represent.iterations": 260}, {"ood.images": 9}], ids=str)
def test_other_settings_are_looked_at_again(change, looked):
    edit("params.yaml", change)
    assert looked() and not looked()


def test_another_image_is_looked_at_again(looked):
    path = Path("data/digits/prepared/images.safetensors")
    arrays, about = read_tensors(path, "")
    arrays["x"][0, 0, 0, 0] += 1
    path.write_bytes(packed(arrays, about))
    assert looked()


def test_other_code_is_looked_at_again(looked, monkeypatch):
    monkeypatch.setattr(represent, "code_of", lambda *modules: f"edited {modules}")
    assert looked()


def test_tables_come_back_as_they_were():
    table = pd.DataFrame({"text": ["clean", "a"], "n": [1, 2], "x": np.float32([0.1, np.nan]),
                          "y": [1e-17, np.inf], "bits": np.uint8([0, 255])})
    one = pd.DataFrame([{"mean": 0.5}])
    pixels = np.random.default_rng(0).random((2, 3, 1, 4, 4), np.float32)
    found = frames_of(columns_of({"a": table, "pixels": pixels, "b": one}))
    assert list(found) == ["a", "pixels", "b"]
    pd.testing.assert_frame_equal(found["a"], table)
    pd.testing.assert_frame_equal(found["b"], one)
    assert np.array_equal(found["pixels"], pixels)
