"""What the embedding says of images: outputs, scores of normality, detection rows, t-SNE."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import seeded
from small_study import logits

from tla.measure import embedding
from tla.measure.embedding import Normality, Outputs, detection_rows, outputs, plane, six_digits
from tla.measure.retrieval import unit
from tla.params import Aware, Detect
from tla.train.data import TEST, TRAIN
from tla.train.pgd import cross_entropy, pgd_linf, random_start

EPS = 0.15
SETTINGS = Detect([1.0, 1.5], 0.1, 5, 3, 4, "diag", Aware(9, [1.0], 1))


@pytest.fixture
def normality(net, dataset):
    return Normality(outputs(net, dataset.split(0, TRAIN).x, 64).embedding, SETTINGS, 0)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_outputs_are_class_confidence_and_embedding(batch, net, dataset):
    x = dataset.split(0, TEST).x
    z, h = net(x)
    found = outputs(net, x, batch)
    assert found.prediction.tolist() == z.argmax(1).tolist()
    assert found.confidence == pytest.approx(z.softmax(1).max(1).values.numpy(), rel=1e-5)
    # A batch of another size may be summed in another order, on some processors.
    assert found.embedding == pytest.approx(h.numpy(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("value", "rounded"), [
    (0.12345678, 0.123457), (-123456.78, -123457.0), (1.2345675e-9, 1.23457e-9), (0.0, 0.0),
    (1e20, 1e20)])
def test_scores_are_rounded_to_six_significant_digits(value, rounded):
    found = six_digits(np.array([value, value]))
    assert found.tolist() == [rounded] * 2 and found.dtype == np.float64


# Scores of normality

def test_scores_by_hand(net, dataset, normality):
    """Softmax; cosine to the three nearest; the mixture's density, of unit-length embeddings."""
    train = outputs(net, dataset.split(0, TRAIN).x, 64).embedding.astype(np.float64)
    out = outputs(net, dataset.split(0, TEST).x, 64)
    scores = normality.scores(out)
    assert list(scores) == ["softmax", "neighbors", "mixture"]
    assert scores["softmax"] == pytest.approx(out.confidence, rel=1e-5)
    for i, h in enumerate(out.embedding.astype(np.float64)):
        cosines = sorted(float(h @ t / np.linalg.norm(h) / np.linalg.norm(t)) for t in train)
        assert scores["neighbors"][i] == pytest.approx(np.mean(cosines[-3:]) - 1, rel=1e-5)
    mixture, density = normality.mixture, 0.0
    for weight, mean, variance in zip(
            mixture.weights_, mixture.means_, mixture.covariances_, strict=True):
        away = (unit(out.embedding) - mean) ** 2 / variance
        density += weight * np.exp(-away.sum(1) / 2 - np.log(2 * np.pi * variance).sum() / 2)
    assert scores["mixture"] == pytest.approx(np.log(density), rel=1e-5)


def test_the_length_of_an_embedding_makes_it_no_less_normal(net, dataset, normality):
    out = outputs(net, dataset.split(0, TEST).x, 64)
    longer = dataclasses.replace(out, embedding=8 * out.embedding)
    first, second = normality.scores(out), normality.scores(longer)
    for name in ("neighbors", "mixture"):
        assert second[name] == pytest.approx(first[name], rel=1e-5)


def test_what_is_like_no_training_image_is_less_normal(net, dataset, normality):
    """Embeddings on the axes, against those of training images themselves."""
    train = outputs(net, dataset.split(0, TRAIN).x, 64)
    axes = Outputs(np.zeros(16, int), np.full(16, 0.1), np.eye(16))
    normal, other = normality.scores(train), normality.scores(axes)
    for name in ("softmax", "neighbors", "mixture"):
        assert np.median(normal[name]) > np.median(other[name])


# Detection rows

@pytest.fixture
def rows(net, dataset, normality):
    test = dataset.split(0, TEST)
    return detection_rows(net, test, outputs(net, test.x, 64), normality, SETTINGS, eps=EPS,
                          batch=7, generator=seeded())


def test_detection_has_a_row_an_image_and_eps(rows, dataset):
    test = dataset.split(0, TEST)
    scores = ["softmax", "neighbors", "mixture"]
    assert list(rows) == ["eps_factor", "idx", "label", "linf", "clean_pred", "adv_pred",
                          *(f"clean_{name}" for name in scores),
                          *(f"adv_{name}" for name in scores)]
    assert rows.eps_factor.tolist() == [1.0] * 40 + [1.5] * 40
    assert rows.idx.tolist() == test.idx.tolist() * 2
    assert rows.label.tolist() == test.y.tolist() * 2


def test_detection_is_of_pgd_from_a_random_start_at_each_eps(rows, net, dataset, normality):
    test, generator = dataset.split(0, TEST), seeded()
    for factor, part in rows.groupby("eps_factor"):
        eps, images = factor * EPS, []
        for x, y in zip(test.x.split(7), test.y.split(7), strict=True):
            start = random_start(x, eps, generator)
            images.append(pgd_linf(logits(net), x, y, eps=eps, step_size=0.1 * eps, steps=5,
                                   loss=cross_entropy, start=start))
        x_adv = torch.cat(images)
        out = outputs(net, x_adv, 7)
        assert part.adv_pred.tolist() == out.prediction.tolist()
        away = (x_adv - test.x).abs().flatten(1).amax(1)
        assert part.linf.tolist() == pytest.approx(away.tolist(), rel=1e-5)
        for name, score in normality.scores(out).items():
            assert part[f"adv_{name}"].tolist() == score.tolist()
        for name, score in normality.scores(outputs(net, test.x, 64)).items():
            assert part[f"clean_{name}"].tolist() == pytest.approx(score.tolist(), rel=1e-5)


@pytest.mark.parametrize("eps", [0.05, 0.1])
def test_detection_steps_by_shares_of_eps(eps, net, dataset, normality, monkeypatch):
    monkeypatch.setattr(embedding, "random_start", lambda x, *_: x)
    test = dataset.split(0, TEST)
    rows = detection_rows(net, test, outputs(net, test.x, 64), normality, SETTINGS, eps=eps,
                          batch=64, generator=seeded())
    reached = rows.groupby("eps_factor").linf.max()
    assert reached.to_dict() == pytest.approx({1.0: 0.5 * eps, 1.5: 0.75 * eps}, abs=3e-7)


def test_images_of_detection_pass_the_referee(net, dataset, normality, monkeypatch):
    def cheat(logits_fn, x, y, *, eps, **_):
        return (x + 2 * eps * (0.5 - x).sign()).clamp(0, 1)

    monkeypatch.setattr(embedding, "pgd_linf", cheat)
    test = dataset.split(0, TEST)
    with pytest.raises(ValueError, match="more than eps"):
        detection_rows(net, test, outputs(net, test.x, 64), normality, SETTINGS, eps=EPS,
                       batch=64, generator=seeded())


# t-SNE

def test_a_plane_keeps_clusters_together(params):
    """Two bundles of directions far apart; lengths are of no concern."""
    rng = np.random.default_rng(0)
    bundles = np.repeat(np.eye(8)[:2], 15, axis=0) + 0.05 * rng.normal(size=(30, 8))
    lengths = rng.uniform(0.1, 10, (30, 1))
    xy = plane(bundles * lengths, params.represent, 0)
    assert xy.shape == (30, 2)
    first, second = xy[:15], xy[15:]
    apart = np.linalg.norm(first.mean(0) - second.mean(0))
    assert apart > 2 * max(first.std(0).max(), second.std(0).max())


@pytest.mark.parametrize("images", [5, 12])
def test_few_images_have_a_plane_too(images, params):
    """The perplexity must be smaller than a third of them, whatever the parameters say."""
    assert params.represent.perplexity > images / 3
    xy = plane(np.random.default_rng(0).normal(size=(images, 4)), params.represent, 0)
    assert np.isfinite(xy).all()
