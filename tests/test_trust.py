"""Attacks beyond the white-box suite, and diagnostics that see through a masked gradient."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from tla.autoattack import ATTACKS, autoattack_columns
from tla.blackbox import hop_skip_jump, square
from tla.classic import smallest_l2, smallest_linf, step_in_domain
from tla.core.attacks import cross_entropy, margin, pgd_linf, random_start
from tla.core.data import Split
from tla.elsewhere import elsewhere
from tla.evaluation import clean_columns
from tla.masking import curve, surface, zero_gradient
from tla.params import HopSkip
from tla.rows import key
from tla.signs import SIGNS, signs

EPS = 0.15


@pytest.fixture(scope="module")
def net(networks):
    """The trained perceptron in single precision."""
    return copy.deepcopy(networks["mlp"]).float()


@pytest.fixture(scope="module")
def split(images):
    x, y = images
    return Split(x.float(), y, torch.arange(len(y)) + 100)


class Masked(torch.nn.Module):
    """Logits times ten thousand: softmax saturates, and with it cross-entropy and its gradient vanish."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        logits, embedding = self.model(x)
        return 1e4 * logits, embedding


class Linear(torch.nn.Module):
    """A linear classifier of two pixels into two classes: logits (0, w x + b)."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = torch.tensor(weight), bias

    def forward(self, x):
        score = x.flatten(1) @ self.weight + self.bias
        return torch.stack([torch.zeros_like(score), score], 1), x.flatten(1)


class Flat(torch.nn.Module):
    """Class 1 only where the pixels' sum leaves its value at mid-grey by a tenth; flat, without gradient, before."""

    def forward(self, x):
        score = torch.relu(x.flatten(1).sum(1) - x[0].numel() / 2 - 0.1) - 0.01
        return torch.stack([torch.zeros_like(score), score], 1), x.flatten(1)


def logits(model):
    return lambda x: model(x)[0]


def survivors(model, split, loss):
    """Correct, [n], after the worse of two runs of PGD: from the image and from a random start."""
    correct = torch.ones(len(split.y), dtype=torch.bool)
    for start in (split.x, random_start(split.x, EPS, torch.Generator().manual_seed(0))):
        x_adv = pgd_linf(logits(model), split.x, split.y, eps=EPS, step_size=EPS / 10, steps=50, loss=loss, start=start)
        correct &= model(x_adv)[0].argmax(1) == split.y
    return correct.float()


def pgd_accuracy(model, split):
    return survivors(model, split, cross_entropy).mean().item()


# AutoAttack

@pytest.fixture(scope="module")
def attacked(net, split):
    return autoattack_columns(net, split, eps=EPS, batch=40, seed=0)


def test_every_attack_of_autoattack_leaves_a_subset_of_what_was_left(attacked, split, net):
    left = (attacked["clean_pred"] == split.y).byte()
    for name in ATTACKS:
        assert (attacked[f"{key(name)}_robust"] <= left).all()
        left = attacked[f"{key(name)}_robust"]
    assert attacked["idx"].tolist() == split.idx.tolist()
    assert attacked["linf"].max() <= EPS + 1e-6
    assert left.float().mean() <= pgd_accuracy(net, split)


def test_autoattack_is_the_same_twice(attacked, net, split):
    again = autoattack_columns(net, split, eps=EPS, batch=40, seed=0)
    assert all(torch.equal(attacked[name], again[name]) for name in attacked)


def test_the_checks_of_autoattack_name_what_is_wrong(net, split):
    class Random(torch.nn.Module):
        def forward(self, x):
            z, h = net(x)
            return z + torch.randn_like(z), h

    few = split.first(4)
    found = autoattack_columns(Random(), few, eps=EPS, batch=4, seed=0)
    assert found["check_random"].all() and not found["check_probabilities"].any()


# A masked gradient

def test_plain_pgd_rates_the_masked_model_robust_and_autoattack_breaks_it(net, split, attacked):
    masked = Masked(net)
    found = autoattack_columns(masked, split, eps=EPS, batch=64, seed=0)["square_robust"].float().mean()
    assert pgd_accuracy(masked, split) > pgd_accuracy(net, split) + 0.3
    assert found < pgd_accuracy(masked, split) - 0.3
    assert found <= attacked["square_robust"].float().mean() + 0.05


def test_the_diagnostics_flag_the_masked_model_and_not_the_plain_one(net, split, params, attacked):
    eps, flags = [EPS / 2, EPS, 1.0], {}
    for name, model in (("plain", net), ("masked", Masked(net))):
        lines = curve(model, split, params.masking, eps).float().mean(1).tolist()
        broken = autoattack_columns(model, split, eps=EPS, batch=64, seed=0)["square_robust"].float()
        pgd, cw = survivors(model, split, cross_entropy), survivors(model, split, margin)
        white = pd.DataFrame({"pgd": pgd, "pgd_restarts_worst": pgd, "cw_worst": cw, "union_worst": pgd * cw})
        squared = square(model, split, eps=EPS, queries=200, batch=64, seed=0)
        other = {"autoattack": pd.Series(broken.numpy()), "transfer": pd.Series(np.ones(len(split.y))),
                 "square": pd.Series((model(squared)[0].argmax(1) == split.y).float().numpy())}
        found = signs(white, "pgd", lines, (zero_gradient(model, split) == 1).float().mean().item(), other)
        flags[name] = {sign for sign, value in found.items() if value > params.masking.tolerance}
    assert flags["plain"] == set()
    assert {"unbounded", "zero_gradient", "square", "cw"} <= flags["masked"]


def test_accuracy_over_eps_starts_at_the_image_where_a_masked_gradient_is_flat(params):
    grey = Split(torch.full((8, 1, 1, 2), 0.5), torch.zeros(8, dtype=torch.long), torch.arange(8))
    assert curve(Flat(), grey, params.masking, [0.5, 1.0]).all()


def test_signs_by_hand():
    correct = pd.DataFrame({"pgd": [1, 1, 1, 0], "pgd_restarts_worst": [1, 0, 0, 0], "cw_worst": [1, 1, np.nan, 0],
                            "union_worst": [1, 0, 0, 0]}, index=[7, 8, 9, 10])
    found = signs(correct, "pgd", [0.9, 0.5, 0.6, 0.2], 0.25, {
        "transfer": pd.Series([1, 1], index=[10, 7]), "square": pd.Series([0, 0, 0], index=[7, 8, 10]),
        "autoattack": pd.Series([0.0], index=[7])})
    assert set(found) == set(SIGNS)
    assert found == pytest.approx({
        "rise": 0.1, "unbounded": 0.2, "transfer": -0.5, "square": 2 / 3, "restarts": 0.5, "cw": 0.0,
        "zero_gradient": 0.25, "autoattack": 1.0})


def test_the_loss_surface_is_centred_on_the_image_and_rises_along_the_gradient(net, split):
    x, y = split.x[:1], split.y[:1]
    plane = surface(net, x, y, EPS, 5, torch.Generator().manual_seed(0)).set_index(["gradient", "random"]).margin
    assert plane.loc[0.0, 0.0] == pytest.approx(margin(net(x)[0], y).item(), rel=1e-5)
    assert len(plane) == 25
    along = plane.xs(0.0, level="random")
    assert along.loc[along.index[along.index > 0].min()] > along.loc[0.0]


# Attacks without gradients

def test_square_stays_in_the_ball_and_never_unbreaks(net, split):
    x_adv = square(net, split, eps=EPS, queries=100, batch=30, seed=0)
    assert (x_adv - split.x).abs().max() <= EPS + 1e-6 and x_adv.min() >= 0 and x_adv.max() <= 1
    clean = clean_columns(net, split, 64)["clean_pred"] == split.y
    after = net(x_adv)[0].argmax(1) == split.y
    assert not (after & ~clean).any() and after.sum() < clean.sum()


def test_hop_skip_jump_returns_misclassified_images_nearer_than_its_start_and_counts_its_queries(net, split):
    few = split.first(5)
    settings = HopSkip(images=5, iterations=3, evaluations=100, initial_evaluations=20)
    found, queries = hop_skip_jump(net, few, settings, seed=0)
    again, _ = hop_skip_jump(net, few, settings, seed=0)
    assert torch.equal(found, again)
    assert (net(found)[0].argmax(1) != net(few.x)[0].argmax(1)).all()
    assert ((found - few.x).abs().flatten(1).amax(1) < 0.9).all()
    assert 20 < queries < 1000


# Textbook attacks

def test_one_step_in_the_domain_is_fgsm_and_many_leave_the_ball(net, split):
    one = step_in_domain(logits(net), split.x, split.y, step_size=EPS, steps=1, sign=1)
    point = split.x.clone().requires_grad_()
    torch.nn.functional.cross_entropy(net(point)[0], split.y, reduction="sum").backward()
    torch.testing.assert_close(one, (split.x + EPS * point.grad.sign()).clamp(0, 1))
    many = step_in_domain(logits(net), split.x, split.y, step_size=0.05, steps=10, sign=1)
    assert (many - split.x).abs().max() > 0.4 and many.min() >= 0 and many.max() <= 1


def test_steps_toward_a_class_raise_its_probability(net, split):
    target = (split.y + 1) % 10
    moved = step_in_domain(logits(net), split.x, target, step_size=0.01, steps=5, sign=-1)
    before, after = (net(x)[0].softmax(1).gather(1, target[:, None]) for x in (split.x, moved))
    assert (after > before).float().mean() > 0.95


def test_smallest_distortions_of_a_linear_classifier_are_its_distances():
    """Distance to the plane w x + b = 0: |w x + b| over the L1 norm of w for L-infinity, over its L2 norm for L2."""
    model = Linear([1.0, -2.0], 0.1)
    x = torch.tensor([[0.5, 0.45], [0.5, 0.4]]).view(2, 1, 1, 2)        # w x + b = -0.3 and -0.2: class 0
    targets = torch.tensor([1, 1])
    linf = smallest_linf(logits(model), x, targets, steps=20, step_fraction=0.1, halvings=12,
                         generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(linf, torch.tensor([0.1, 0.2 / 3]), atol=1e-3, rtol=0)
    l2 = smallest_l2(model, x, targets, steps=200)
    torch.testing.assert_close(l2, torch.tensor([0.3, 0.2]) / 5 ** 0.5, atol=5e-3, rtol=0)


def test_the_smallest_change_is_also_sought_from_a_random_start():
    """From mid-grey itself no gradient leads anywhere; of three draws of noise one mostly does."""
    grey, target = torch.full((32, 1, 1, 2), 0.5), torch.ones(32, dtype=torch.long)
    found = smallest_linf(logits(Flat()), grey, target, steps=10, step_fraction=0.1, halvings=2,
                          generator=torch.Generator().manual_seed(0))
    assert found.isfinite().float().mean() > 0.5


def test_a_class_out_of_reach_has_infinite_distance():
    model = Linear([0.1, 0.1], -1.0)    # class 1 needs w x > 1, but w x is 0.2 at most
    x = torch.full((1, 1, 1, 2), 0.5)
    found = smallest_linf(logits(model), x, torch.tensor([1]), steps=5, step_fraction=0.3, halvings=3,
                          generator=torch.Generator().manual_seed(0))
    assert found.isinf().all()
    assert smallest_l2(model, x, torch.tensor([1]), steps=20).isinf().all()


# Images from elsewhere

@pytest.mark.parametrize("source", ["noise", "photos", "digits"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)], ids=str)
def test_images_from_elsewhere_have_the_shape_and_range_of_the_data(source, shape):
    first, again = (elsewhere(source, shape, 12, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (12, *shape) and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again)
    assert first.flatten(1).std(1).median() > 0.01 and first.std(0).max() > 0.05


def test_digits_come_back_unchanged_at_their_own_size():
    found = elsewhere("digits", (1, 8, 8), 5, torch.Generator().manual_seed(0))
    assert ((found * 16).round() - found * 16).abs().max() < 1e-4
