"""The attacker who knows the detector: scores, weight, images, and what is said of the detector."""

import copy
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import seeded
from small_study import logits

from tla.measure import aware
from tla.measure.aware import aware_rows, disguised, scores_of, weighted_pgd
from tla.measure.embedding import Normality, Outputs, outputs
from tla.measure.retrieval import unit
from tla.params import Aware, Detect
from tla.report import detection
from tla.report.detection import (
    auc_differences,
    aware_lines,
    facing,
    roc_lines,
    works_against,
)
from tla.train.data import TEST, TRAIN
from tla.train.pgd import cross_entropy, pgd_linf, random_start

CPU = torch.device("cpu")
EPS = 0.15
SCORES = ("softmax", "neighbors", "mixture")
COVARIANCES = ("diag", "full", "tied", "spherical")
PGD = {"eps": EPS, "step_size": 0.1 * EPS, "steps": 8}
by_score = pytest.mark.parametrize("name", SCORES)


def settings(covariance="diag", halvings=3):
    return Detect([1.0, 1.5], 0.1, 8, 3, 4, covariance, Aware(20, [1.0, 1.5], halvings))


@pytest.fixture
def normality(net, dataset):
    return Normality(outputs(net, dataset.split(0, TRAIN).x, 64).embedding, settings(), 0)


@pytest.fixture
def attacked(net, dataset, normality):
    """Test images, their classes, random starts, the unaware attacker's images, and the scores."""
    test = dataset.split(0, TEST)
    start = random_start(test.x, EPS, seeded())
    unaware = pgd_linf(logits(net), test.x, test.y, loss=cross_entropy, start=start, **PGD)
    return test.x, test.y, start, unaware, scores_of(normality, CPU)


def wrong(net, x, y):
    return logits(net)(x).argmax(1) != y


# Scores

@pytest.mark.parametrize("covariance", COVARIANCES)
def test_scores_are_those_of_the_detector(covariance, dataset, net):
    """The mixture's is scikit-learn's, to 1e-6 of it; softmax is a logarithm."""
    train = outputs(net, dataset.split(0, TRAIN).x, 64)
    normality = Normality(train.embedding, settings(covariance), 0)
    z, h = net(dataset.split(0, TEST).x)
    found = {name: score(z, h).numpy() for name, score in scores_of(normality, CPU).items()}
    assert list(found) == list(SCORES)
    expected = normality.mixture.score_samples(unit(h.numpy()))
    assert found["mixture"] == pytest.approx(expected, rel=1e-6, abs=1e-6)
    out = Outputs(z.argmax(1).numpy(), z.softmax(1).max(1).values.numpy(), h.numpy())
    detector = normality.scores(out)
    assert found["neighbors"] == pytest.approx(detector["neighbors"], rel=1e-5)
    assert np.exp(found["softmax"]) == pytest.approx(detector["softmax"], rel=1e-5)


@by_score
def test_the_gradient_goes_through_the_score(name, dataset, net, normality):
    """A small step along it raises the score by what it promises: k nearest and all."""
    h = net(dataset.split(0, TEST).x)[1].double().requires_grad_()
    score, head = scores_of(normality, CPU)[name], copy.deepcopy(net.head).double()

    def of(embedding):
        return score(head(embedding), embedding)

    (gradient,) = torch.autograd.grad(of(h).sum(), h)
    length = gradient.norm(dim=1, keepdim=True)
    assert (length > 0).all()
    step = 1e-5 * gradient / length
    gained = (of(h + step) - of(h - step)).detach()
    assert gained.numpy() == pytest.approx(2e-5 * length.squeeze(1).numpy(), rel=0.02)


# The attack

@by_score
def test_with_weight_0_the_aware_attacker_is_the_unaware_one(name, net, attacked):
    x, y, start, unaware, scores = attacked
    found = weighted_pgd(net, x, y, scores[name], torch.zeros(len(x)), start=start, **PGD)
    assert found.equal(unaware)


@by_score
def test_with_weight_1_the_score_alone_is_raised(name, net, attacked):
    x, y, start, unaware, scores = attacked
    found = weighted_pgd(net, x, y, scores[name], torch.ones(len(x)), start=start, **PGD)
    of = [scores[name](*net(images)) for images in (x, unaware, found)]
    assert (of[2] > of[0]).float().mean() > 0.9 and (of[2] > of[1]).float().mean() > 0.9
    assert wrong(net, found, y).sum() < wrong(net, unaware, y).sum()


@by_score
def test_an_image_has_a_weight_of_its_own(name, net, attacked):
    """That of the others does not matter, and the score's scale neither."""
    x, y, start, unaware, scores = attacked
    weight = torch.linspace(0, 1, len(x))
    found = weighted_pgd(net, x, y, scores[name], weight, start=start, **PGD)
    assert found[0].equal(unaware[0]) and not found[1:].equal(unaware[1:])
    larger = weighted_pgd(net, x, y, lambda z, h: 4 * scores[name](z, h), weight, start=start,
                          **PGD)
    assert larger.equal(found)
    alone = weighted_pgd(net, x[9:10], y[9:10], scores[name], weight[9:10], start=start[9:10],
                         **PGD)
    assert torch.allclose(alone[0], found[9], atol=1e-6)


@by_score
def test_where_the_unaware_succeeds_the_aware_does_and_looks_at_least_as_normal(
        name, net, attacked):
    x, y, start, unaware, scores = attacked
    found = disguised(net, x, y, scores[name], unaware, 3, start=start, **PGD)
    broken = wrong(net, unaware, y)
    assert 5 < broken.sum() < len(x), "nothing is tested"
    assert wrong(net, found, y).tolist() == broken.tolist()
    before, after = (scores[name](*net(images)) for images in (unaware, found))
    gain = (after - before)[broken]
    assert (gain >= -1e-6 * before[broken].abs()).all() and (gain > 0).float().mean() > 0.3
    assert found[~broken].equal(unaware[~broken])


@by_score
def test_images_stay_in_the_ball_and_are_pixels(name, net, attacked):
    x, y, start, unaware, scores = attacked
    found = disguised(net, x, y, scores[name], unaware, 3, start=start, **PGD)
    assert (found - x).abs().max() <= EPS + 1e-6 and found.min() >= 0 and found.max() <= 1


def test_more_rounds_of_the_search_are_no_worse(net, attacked):
    x, y, start, unaware, scores = attacked
    score, means = scores["mixture"], []
    for halvings in (1, 2, 4):
        found = disguised(net, x, y, score, unaware, halvings, start=start, **PGD)
        means.append(score(*net(found)))
    assert (means[1] >= means[0] - 1e-6 * means[0].abs()).all()
    assert (means[2] >= means[1] - 1e-6 * means[1].abs()).all()
    assert means[2].mean() > means[0].mean()


def test_weights_are_bisected_upwards_where_the_run_succeeds(net, attacked, monkeypatch):
    """Who is misclassified whatever the weight gets 1/2, 3/4, 7/8; who never is 1/2, 1/4, 1/8."""
    x, y, start, unaware, scores = attacked
    rows, asked = wrong(net, unaware, y), []

    def watched(model, x, y, score, weight, **_):
        asked.append(weight.tolist())
        easy = torch.arange(len(x)) == 0
        return torch.where(easy.view(-1, 1, 1, 1), unaware[rows], clean)

    clean = x[rows]
    assert not wrong(net, clean, y[rows])[1:3].any()
    monkeypatch.setattr(aware, "weighted_pgd", watched)
    disguised(net, x, y, scores["softmax"], unaware, 3, start=start, **PGD)
    assert [weights[0] for weights in asked] == [1 / 2, 3 / 4, 7 / 8]
    assert [weights[1] for weights in asked] == [1 / 2, 1 / 4, 1 / 8]


def test_nothing_is_searched_for_where_nothing_is_broken(net, attacked):
    x, y, start, _, scores = attacked
    right = ~wrong(net, x, y)
    x, y, start = x[right], y[right], start[right]
    assert disguised(net, x, y, scores["softmax"], x, 3, start=start, **PGD).equal(x)


# Rows

@pytest.fixture
def rows(net, dataset, normality):
    test = dataset.split(0, TEST)
    return aware_rows(net, test, normality, settings(), eps=EPS, batch=17, generator=seeded())


def test_rows_are_of_both_attackers_on_the_same_images(rows, dataset):
    test = dataset.split(0, TEST)
    assert rows.idx.tolist() == 2 * test.idx.tolist() and rows.label.tolist() == 2 * test.y.tolist()
    assert rows.eps_factor.tolist() == [1.0] * 40 + [1.5] * 40
    assert list(rows) == [
        "eps_factor", "idx", "label", "clean_pred", *(f"clean_{name}" for name in SCORES),
        "unaware_linf", "unaware_pred", *(f"unaware_{name}" for name in SCORES),
        *(f"aware_{name}{what}" for name in SCORES for what in ("_linf", "_pred", ""))]
    fooled = rows.unaware_pred != rows.label
    for name in SCORES:
        assert (rows[f"aware_{name}_linf"] <= rows.eps_factor * EPS + 1e-6).all()
        assert ((rows[f"aware_{name}_pred"] != rows.label) == fooled).all()
        before, after = rows[f"unaware_{name}"], rows[f"aware_{name}"]
        assert (after >= before - 1e-5 * before.abs()).all()
        assert (after[fooled] > before[fooled]).mean() > 0.3
        assert (after[~fooled] == before[~fooled]).all()


def test_images_of_the_aware_attacker_pass_the_referee(net, dataset, normality, monkeypatch):
    monkeypatch.setattr(aware, "disguised", lambda model, x, *_, **__: (x + 0.4).clamp(0, 1))
    with pytest.raises(ValueError, match="more than eps"):
        aware_rows(net, dataset.split(0, TEST), normality, settings(), eps=EPS, batch=64,
                   generator=seeded())


# What is said of it

def both(seeds=2, n=40):
    """Rows in which every score tells wrong from right, until its attacker makes it look normal."""
    wrong = np.arange(n) % 2
    rows = pd.DataFrame({"eps_factor": 1.0, "idx": np.arange(n), "label": 0, "clean_pred": 0,
                         "unaware_pred": wrong})
    for k, name in enumerate(SCORES):
        rows[f"clean_{name}"] = 2 + np.arange(n) / n
        rows[f"unaware_{name}"] = 1 - wrong + np.arange(n) / n / 2
        rows[f"aware_{name}_pred"] = 2 * wrong
        rows[f"aware_{name}"] = 1 + k * wrong + np.arange(n) / n / 2
    return pd.concat([rows.assign(seed=seed) for seed in range(seeds)])


def test_each_attacker_faces_a_score_with_images_of_its_own():
    rows = both(1)
    unaware, knows = (facing(rows, attacker, "mixture") for attacker in detection.ATTACKERS)
    assert unaware.adv_pred.max() == 1 and knows.adv_pred.max() == 2
    assert unaware.adv_mixture.tolist() == rows.unaware_mixture.tolist()
    assert knows.adv_mixture.tolist() == rows.aware_mixture.tolist()


def test_areas_of_both_attackers_stand_side_by_side(make_params):
    params = make_params({"compare.resamples": 20, "compare.least": 5})
    lines = pd.DataFrame(aware_lines(both(), params)).set_index(["task", "score", "attacker"])
    lines = lines.sort_index()
    assert len(lines) == 2 * 3 * 2
    of_mixture = lines.loc["misclassified", "mixture"]
    assert of_mixture.auc["unaware"] == 1 and of_mixture.auc["aware"] == 0
    assert of_mixture.above_chance.to_dict() == {"unaware": True, "aware": False}
    softmax = lines.loc["misclassified", "softmax", "aware"]
    assert softmax.auc == pytest.approx(0.475) and softmax.low < 0.5 < softmax.high
    assert lines.loc["adversarial"].low.isna().all() and (lines.loc["adversarial"].seeds == 2).all()
    few = pd.DataFrame(aware_lines(both(n=8), params))
    assert few.auc.isna().all() and (few.seeds == 0).all()


def test_curves_of_both_attackers_are_those_of_their_areas():
    lines = pd.DataFrame(roc_lines(both(), 5))
    part = lines[(lines.task == "misclassified") & (lines.score == "mixture")]
    heights = part[part.fpr.between(0.1, 0.9)].groupby("attacker").tpr.mean()
    assert heights.to_dict() == {"aware": 0, "unaware": 1}


def test_a_difference_is_that_under_the_attacker_who_knows_the_score(params):
    """Whom all scores stand: their areas are 0.475, 0 and 0 there, and 1 where he does not."""
    factor, few = params.detect.aware.eps_factors[0], replace(params.compare, resamples=20)
    rows = both().assign(eps_factor=factor)
    detect = facing(rows, "unaware", "softmax")
    for score in SCORES:
        detect = detect.assign(**{f"adv_{score}": rows[f"unaware_{score}"]})
    every = [detect.assign(eps_factor=factor) for factor in params.detect.eps_factors]
    aware = [rows.assign(eps_factor=factor) for factor in params.detect.aware.eps_factors]
    found = auc_differences({"um": pd.concat(every)}, {"um": pd.concat(aware)}, [("um", "chance")],
                            replace(params, compare=few))
    found = found[found.eps_factor == factor].set_index("score").difference
    for score, area in zip(SCORES, (0.475, 0, 0), strict=True):
        assert found[score] == pytest.approx(0.5)
        assert found[f"{score}-aware"] == pytest.approx(area - 0.5)


def line(above):
    return {"above_chance": above}


@pytest.mark.parametrize(("unaware", "knows", "expected"), [
    (True, True, "both"), (True, False, "unaware"), (False, False, "neither"),
    (math.nan, False, "undefined"), (True, math.nan, "undefined")])
def test_a_detector_that_only_works_against_the_unaware_is_told(unaware, knows, expected):
    assert works_against(line(unaware), line(knows)) == expected
