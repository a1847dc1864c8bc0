"""Attacks in L2 and L0: what they say of their images, and what the model says."""


import foolbox
import numpy as np
import pandas as pd
import pytest
import torch
from small_study import Answers

from tla.measure import norms
from tla.measure.distances import l0_distance, l2_distance
from tla.measure.norms import (
    apgd_columns,
    at_radius,
    ddn_columns,
    fmn_columns,
    norm_metrics,
    over_radii,
    pointwise_columns,
    with_unions,
    within_radii,
)
from tla.measure.queries import Counted
from tla.outcomes import is_outcome
from tla.params import Apgd, Ddn, Fmn, Pointwise
from tla.train.data import Split

L2, L0 = [0.2, 0.4, 0.6, 0.8, 1.0], [1, 2, 3]
ATTACKS = {"l2-apgd": (apgd_columns, L2, Apgd(10, 3)), "l2-ddn": (ddn_columns, L2, Ddn(50)),
           "l0-fmn": (fmn_columns, L0, Fmn(30, 5.0)),
           "l0-pointwise": (pointwise_columns, L0, Pointwise(50, 2))}
in_l0 = pytest.mark.parametrize("name", ["l0-fmn", "l0-pointwise"])


@pytest.fixture(scope="module")
def split(images):
    """Sixty-four digits, the last four with a label that the perceptron does not give them."""
    x, y = images
    y = y.clone()
    y[-4:] = (y[-4:] + 1) % 10
    return Split(x.float(), y, torch.arange(len(y)) + 100)


def run(name, model, split, seed=0, radii=None, settings=None):
    function, usual, chosen = ATTACKS[name]
    return function(model, split, name, radii or usual, settings or chosen, batch=50, seed=seed)


def run_seen(name, model, split, **settings):
    """The columns of an attack, and the images that it returned."""
    seen = []

    def watched(model, split, x_adv, *rest):
        seen.append(x_adv)
        return within_radii(model, split, x_adv, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norms, "within_radii", watched)
        return run(name, model, split, **settings), seen[0]


@pytest.fixture(scope="module")
def attacked(net, split):
    """Columns and images of every attack on the perceptron."""
    return {name: run_seen(name, net, split) for name in ATTACKS}


def classes(model, x):
    with torch.no_grad():
        return model(x)[0].argmax(1)


def outcomes(columns, name):
    """Who is correct at each radius, [radii, n]."""
    return torch.stack([columns[at_radius(name, radius)] for radius in ATTACKS[name][1]]).bool()


# What the images are

@in_l0
def test_l0_never_changes_more_pixels_than_it_says(name, attacked, split):
    columns, x_adv = attacked[name]
    for i, said in enumerate(columns[f"{name}_distance"].tolist()):
        changed = sum(a != b for a, b in zip(x_adv[i].flatten().tolist(),
                                             split.x[i].flatten().tolist(), strict=True))
        assert changed == said or said == np.inf
        for radius in L0:
            if not columns[at_radius(name, radius)][i]:
                assert changed <= radius


@pytest.mark.parametrize("name", ["l2-apgd", "l2-ddn"])
def test_l2_stays_in_the_ball(name, attacked, split):
    columns, x_adv = attacked[name]
    away = (x_adv - split.x).double().flatten(1).norm(dim=1)
    for radius in L2:
        broken = columns[at_radius(name, radius)] == 0
        assert broken.any() and away[broken].max() <= radius + 1e-5
    if name == "l2-apgd":
        assert away.max() <= L2[-1] + 1e-5


@pytest.mark.parametrize("name", ATTACKS)
def test_pixels_stay_between_0_and_1(name, attacked):
    _, x_adv = attacked[name]
    assert x_adv.min() >= 0 and x_adv.max() <= 1


@pytest.mark.parametrize("name", ATTACKS)
def test_a_larger_radius_never_breaks_fewer_and_some_break_more(name, attacked):
    correct = outcomes(attacked[name][0], name)
    assert (correct[1:] <= correct[:-1]).all()
    assert correct[0].sum() > correct[-1].sum()


# What the model says of them

@pytest.mark.parametrize("name", ATTACKS)
def test_every_success_is_confirmed_by_the_models_own_forward(name, attacked, net, split):
    columns, x_adv = attacked[name]
    assert columns[f"{name}_pred"].equal(classes(net, x_adv))
    broken = ~outcomes(columns, name)[-1]
    assert broken.sum() > 10 and (classes(net, x_adv)[broken] != split.y[broken]).all()
    reached = columns[f"{name}_distance"].isfinite()
    assert reached.equal(columns[f"{name}_pred"] != split.y)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_misclassified_image_is_broken_at_every_radius_as_it_is(name, attacked, split):
    columns, _ = attacked[name]
    assert (columns[f"{name}_distance"][-4:] == 0).all()
    assert not outcomes(columns, name)[:, -4:].any()
    assert (columns[f"{name}_distance"][:-4] > 0).all()


def test_a_misclassified_image_is_broken_whatever_an_attack_made_of_it(net, split):
    wrong = split.take(slice(60, 64))
    for x_adv in (1 - wrong.x, torch.zeros_like(wrong.x)):
        found = within_radii(net, wrong, x_adv, "l0-fmn", L0, l0_distance, 50)
        assert (found["l0-fmn_distance"] == 0).all() and not outcomes(found, "l0-fmn").any()


def test_a_success_that_an_attack_only_claims_does_not_count(net, split):
    right = split.take(slice(0, 60))
    found = within_radii(net, right, right.x.clone(), "l2-ddn", L2, l2_distance, 50)
    assert found["l2-ddn_distance"].isinf().all() and outcomes(found, "l2-ddn").all()


def test_a_change_counts_only_from_its_own_size_on(net, split):
    """Whatever the radius was that the attack was asked to stay within."""
    right = split.take(slice(0, 60))
    x_adv = right.x.clone()
    x_adv[:, :, 2:5, 2:5] = 1 - x_adv[:, :, 2:5, 2:5]
    away = (x_adv - right.x).flatten(1).norm(dim=1)
    found = within_radii(net, right, x_adv, "l2-apgd", [1.0, 2.0, 3.0], l2_distance, 50)
    fooled = classes(net, x_adv) != right.y
    assert fooled.any()
    for radius in (1.0, 2.0, 3.0):
        broken = found[at_radius("l2-apgd", radius)] == 0
        assert broken.equal(fooled & (away <= radius))


@pytest.mark.parametrize("change", [lambda x: x + 1, lambda x: x * np.nan, lambda x: x[:5]])
@pytest.mark.parametrize("distance", [l2_distance, l0_distance])
def test_images_that_are_none_are_refused(change, distance, split):
    with pytest.raises(ValueError, match="pixels|shape"):
        distance(split.x, change(split.x))


def test_distances_by_hand():
    """A pixel counts once, in however many channels it differs, however little."""
    x = torch.full((2, 3, 2, 2), 0.5)
    x_adv = x.clone()
    x_adv[1, 0, 0, 0], x_adv[1, 2, 0, 0], x_adv[1, 1, 1, 1] = 0.9, 0.2, 0.5 + 1e-7
    assert l0_distance(x, x_adv).tolist() == [0, 2]
    assert l2_distance(x, x_adv) == pytest.approx([0, 0.5])


# How near they come

class Line(torch.nn.Module):
    """Class 1 where w x + b > 0, else class 0, of four classes."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = torch.tensor(weight), bias

    def forward(self, x):
        score = x.flatten(1) @ self.weight + self.bias
        far = torch.full_like(score, -9.0)
        return torch.stack([torch.zeros_like(score), score, far, far - 1], 1), x.flatten(1)


def grey(weight, score):
    """A grey image, and the line that gives it this negative score."""
    x = torch.full((1, 1, 1, len(weight)), 0.5)
    return Line(weight, score - sum(weight) / 2), Split(x, torch.tensor([0]), torch.tensor([0]))


def test_l2_attacks_find_the_distance_to_a_plane():
    """|w x + b| / |w| = 0.4."""
    line, split = grey([0.3, -0.4, 0.0, 0.0], -0.2)
    distance = run("l2-ddn", line, split, radii=[1.0], settings=Ddn(200))["l2-ddn_distance"]
    assert 0.4 < distance.item() < 0.404
    found = run("l2-apgd", line, split, radii=[0.38, 0.399, 0.401, 0.42], settings=Apgd(20, 1))
    assert [found[name].item() for name in found if is_outcome(name)] == [1, 1, 0, 0]


@pytest.mark.parametrize(("score", "pixels"), [(-0.3, 1), (-0.6, 2), (-0.9, 3), (-1.4, np.inf)])
def test_l0_finds_the_fewest_pixels_that_cross_a_plane(score, pixels):
    """A pixel moves the score by 0.4 at the most, three by 1.2; beyond it nothing helps."""
    line, split = grey([0.8, -0.8, 0.8, *[0.01] * 20], score)
    for name, settings in (("l0-fmn", Fmn(20, 1.0)), ("l0-pointwise", Pointwise(50, 5))):
        found = run(name, line, split, settings=settings)
        assert found[f"{name}_distance"].tolist() == [pixels], name
        assert [found[at_radius(name, n)].item() for n in L0] == [n < pixels for n in L0]


def test_ddn_is_consistent_with_apgd(attacked):
    """Two searches for one boundary: at no radius do they differ on more than one image in ten."""
    for radius in L2:
        apgd = attacked["l2-apgd"][0][at_radius("l2-apgd", radius)]
        ddn = attacked["l2-ddn"][0][at_radius("l2-ddn", radius)]
        assert (apgd != ddn).float().mean() <= 0.1


def test_more_restarts_need_no_more_pixels(net, split):
    one, three = (run("l0-pointwise", net, split, settings=Pointwise(20, restarts))
                  ["l0-pointwise_distance"] for restarts in (1, 3))
    assert (three <= one).all() and (three < one).any()


def test_putting_pixels_back_betters_what_the_library_returns(net, split, attacked):
    """FMN keeps one pixel more than its bound: it hardly ever changes a single one by itself."""
    attack = foolbox.attacks.L0FMNAttack(steps=30, max_stepsize=5.0)
    alone = attack.run(foolbox.PyTorchModel(Counted(net).eval(), bounds=(0, 1)), split.x,
                       foolbox.criteria.Misclassification(split.y))
    fooled = (classes(net, alone) != split.y).numpy()
    theirs = l0_distance(split.x, alone)[fooled]
    ours = attacked["l0-fmn"][0]["l0-fmn_distance"].numpy()[fooled]
    assert (ours <= theirs).all() and (ours == 1).sum() > 2 * (theirs == 1).sum()


def test_each_attack_in_l0_breaks_what_the_other_leaves(attacked, net, split):
    """FMN needs fewer pixels where a gradient shows the way, pointwise needs no gradient at all."""
    fmn, pointwise = (attacked[name][0][f"{name}_distance"] for name in ("l0-fmn", "l0-pointwise"))
    assert fmn.sum() < pointwise.sum()
    plateaus, right = Answers(net, lambda z: (5 * z).round() / 5 + 0 * z), split.take(slice(0, 20))
    fmn, pointwise = (run(name, plateaus, right)[f"{name}_distance"]
                      for name in ("l0-fmn", "l0-pointwise"))
    assert fmn.isfinite().sum() < 5 and pointwise.isfinite().all()


def test_fmn_may_change_all_pixels_but_two(net, split):
    """With more steps the library fails on some images; parameters are refused before that."""
    run("l0-fmn", net, split.take(slice(0, 3)), settings=Fmn(62, 1.0))


# Chance, and nothing to be found

@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_the_same_twice_and_follow_their_seed(name, net, split, attacked):
    torch.manual_seed(5)
    np.random.seed(5)
    again = run(name, net, split)
    assert list(again) == list(attacked[name][0])
    assert all(again[column].equal(attacked[name][0][column]) for column in again)
    other, x_adv = run_seen(name, net, split, seed=1)
    assert x_adv.equal(attacked[name][1]) == (name == "l2-ddn")     # it alone draws nothing


@pytest.mark.parametrize("name", ATTACKS)
def test_a_model_that_nothing_changes_is_never_broken(name, net, split):
    """Nor does the attack stop for want of a start or of a gradient."""
    right = split.take(split.y == 3)
    found = run(name, Answers(net, lambda z: 0 * z + torch.eye(10)[3]), right)
    assert found[f"{name}_distance"].isinf().all() and outcomes(found, name).all()


# Rows and metrics

@pytest.fixture
def rows(attacked, split, params):
    columns = {"seed": 0, "idx": split.idx.numpy(), "label": split.y.numpy()}
    for name in ATTACKS:
        columns |= {key: value.numpy() for key, value in attacked[name][0].items()}
    return with_unions(pd.DataFrame(columns), params.norms)


def test_a_norm_is_correct_under_both_attacks_and_its_mean_weighs_all_radii(rows, params):
    assert (params.norms.l2_radii, params.norms.l0_radii) == (L2, L0)
    for row in rows.to_dict("records"):
        for norm, (one, other), radii in (("l2", ("l2-apgd", "l2-ddn"), L2),
                                          ("l0", ("l0-fmn", "l0-pointwise"), L0)):
            both = [min(row[at_radius(one, r)], row[at_radius(other, r)]) for r in radii]
            assert [row[at_radius(norm, r)] for r in radii] == both
            assert row[over_radii(norm)] == pytest.approx(sum(both) / len(radii))
            distances = row[f"{one}_distance"], row[f"{other}_distance"]
            assert row[f"{norm}_distance"] == min(distances)


def test_metrics_are_accuracies_of_the_norms_and_not_of_single_attacks(rows):
    found = norm_metrics(rows)
    assert found.pop("norms_images") == 64
    names = [at_radius("l2", r) for r in L2] + [at_radius("l0", r) for r in L0]
    assert set(found) == {f"{name}_accuracy" for name in [*names, "l2_mean_worst", "l0_mean_worst"]}
    for name, value in found.items():
        assert value == pytest.approx(rows[name.removesuffix("_accuracy")].mean())


def test_names_at_a_radius_are_those_of_outcomes():
    assert at_radius("l2", 0.25) == "l2_0.25_worst" and at_radius("l0", 10) == "l0_10_worst"
    assert is_outcome(at_radius("l2-apgd", 2.0)) and is_outcome(over_radii("l0"))
