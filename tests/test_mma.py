"""Maximum-margin training: the margin that is found, what counts at it, and its limits."""

import copy

import pytest
import torch
from small_study import Linear, logits
from torch.nn import functional as F

from tla.train.methods import METHODS
from tla.train.methods.mma import at_margin, soft_logit_margin
from tla.train.pgd import Adversary
from tla.train.training import Batch, Trainer

AUTHORS = {"d_max": 0.3, "search_to": 1.05, "halvings": 10, "clean_weight": 1 / 3}
NAMES = ["um", "at", "alp", "tla"]
SMALL = {"models": [*NAMES, "mma"], "represent.models": NAMES,
         "model.widths": [16, 8], "train.batch": 32, "train.epochs": 2, "attack.steps": 3}


def settings(**changes):
    return METHODS["mma"].Parameters(lr=0.1, **AUTHORS | changes)


def pgd_images(method, network, x, y, eps=0.1):
    adversary = Adversary(logits(network), eps, eps / 4, 7, 0.0, torch.Generator().manual_seed(0))
    return METHODS[method].images(adversary, x, y)


@pytest.fixture
def batch(network, images):
    """Sixty-four digits, eight of them with a class that the network does not give them."""
    x, y = images[0], images[1].clone()
    y[:8] = (y[:8] + 1) % 10
    return Batch(x, pgd_images("mma", network, x, y), y, 0.0, None)


@pytest.fixture
def sure(batch, network):
    """The images of the batch with the true class above one half, where a margin is looked for."""
    rows = soft_logit_margin(network(batch.x)[0], batch.y) < 0
    assert rows.sum() == 56
    return Batch(batch.x[rows], batch.x_adv[rows], batch.y[rows], 0.0, None)


# The soft logit margin

def test_cross_entropy_is_the_softplus_of_the_soft_logit_margin(network, images):
    found = logits(network)(images[0])
    torch.testing.assert_close(F.softplus(soft_logit_margin(found, images[1])),
                               F.cross_entropy(found, images[1], reduction="none"))


def test_its_training_images_are_those_of_adversarial_training(network, images):
    """Signed steps on a rising function of a loss are the steps on that loss."""
    mma, at = (pgd_images(name, network, *images) for name in ("mma", "at"))
    torch.testing.assert_close(mma, at, rtol=0, atol=1e-12)


# The margin

@pytest.mark.parametrize(("bias", "margin"), [(-0.3, 0.1), (-0.6, 0.2), (-0.03, 0.01)])
def test_the_margin_of_a_linear_classifier_is_found_from_either_side(bias, margin):
    """|w x + b| over the L1 norm of w: at eps 0.15 the search begins inside or outside."""
    model = Linear([2.0, -1.0], bias - 0.5)     # w x = 0.5
    model.weight = model.weight.double()
    x = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64)
    x_adv = x + 0.15 * torch.tensor([1.0, -1.0]).double().view_as(x)
    batch = Batch(x, x_adv, torch.tensor([0]), 0.0, None)
    moved, found = at_margin(model, batch, settings(halvings=20))
    assert found.item() == pytest.approx(margin, abs=1e-6)
    assert model(moved)[0].diff().item() == pytest.approx(0, abs=1e-5)


def test_margins_end_where_the_search_does(sure, network):
    _, found = at_margin(network, sure, settings(d_max=0.02, halvings=20))
    assert found.max() <= 1.05 * 0.02 and found.max() > 0.02


def test_each_halving_halves_the_error(sure, network):
    exact = at_margin(network, sure, settings(halvings=40))[1]
    for halvings in (2, 5, 10):
        found = at_margin(network, sure, settings(halvings=halvings))[1]
        assert (found - exact).abs().max() <= 1.05 * 0.3 / 2 ** halvings + 1e-9


def test_the_boundary_is_searched_in_evaluation_mode_and_without_a_gradient(sure, network):
    network, seen = copy.deepcopy(network).train(), []
    network.register_forward_pre_hook(
        lambda module, _: seen.append((module.training, torch.is_grad_enabled())))
    at_margin(network, sure, settings(halvings=3))
    assert seen == [(False, False)] * 3 and network.training


# The loss

def test_the_loss_of_every_kind_of_image(batch, network):
    """Wrong: clean. Right with a margin below d_max: at the margin. Beyond d_max: none."""
    values = settings(d_max=0.06)
    clean = network(batch.x)[0]
    right = soft_logit_margin(clean, batch.y) < 0
    moved, margin = at_margin(network, batch, values)
    each, counts = [], {"wrong": 0, "inside": 0, "beyond": 0}
    for i in range(len(batch.y)):
        kind = "wrong" if not right[i] else "inside" if margin[i] < 0.06 else "beyond"
        x = {"wrong": batch.x, "inside": moved, "beyond": None}[kind]
        counts[kind] += 1
        if x is not None:
            each.append(F.cross_entropy(network(x[i: i + 1])[0], batch.y[i: i + 1]))
    assert min(counts.values()) > 0
    expected = 2 / 3 * sum(each) / len(batch.y) + F.cross_entropy(clean, batch.y) / 3
    loss, logs = METHODS["mma"].loss(network, batch, values)
    torch.testing.assert_close(loss, expected)
    assert logs["beyond_d_max"] == pytest.approx(counts["beyond"] / 64)
    assert logs["wrong"] == pytest.approx(counts["wrong"] / 64)


def test_with_margins_fixed_at_eps_it_is_adversarial_training(sure, network):
    """Loss and gradients, on images that are right, if nothing is searched nor mixed in."""
    gradients = []
    for name, values in (("mma", settings(halvings=0, clean_weight=0.0)), ("at", None)):
        copied = copy.deepcopy(network).requires_grad_(True)
        x_adv = pgd_images(name, network, sure.x, sure.y)
        loss, _ = METHODS[name].loss(copied, Batch(sure.x, x_adv, sure.y, 0.0, None), values)
        loss.backward()
        gradients.append([loss, *(p.grad for p in copied.parameters())])
    for mma, at in zip(*gradients, strict=True):
        torch.testing.assert_close(mma, at, rtol=1e-7, atol=1e-10)


def test_with_margins_searched_it_is_not(sure, network):
    found, at = (METHODS[name].loss(network, sure, values)[0] for name, values in (
        ("mma", settings(clean_weight=0.0)), ("at", None)))
    assert abs(found - at) > 0.01


def test_of_clean_loss_alone_it_trains_like_an_undefended_model(make_params, dataset):
    params = make_params(SMALL | {"methods.mma.clean_weight": 1.0})
    trained = [Trainer(params, name, 0, 0, dataset) for name in ("mma", "um")]
    for trainer in trained:
        trainer.epoch()
    mma, um = (trainer.network.state_dict() for trainer in trained)
    assert all(torch.equal(mma[name], um[name]) for name in um)


def test_a_search_that_stops_short_of_d_max_is_refused():
    with pytest.raises(ValueError, match="never finds a margin of d_max"):
        settings(search_to=0.9)


def test_images_ask_for_the_direction_alone(network, images):
    """The module's own function, so that nobody's label smoothing changes the direction."""
    asked = []

    class Watched:
        def ascend(self, x, y, loss):
            asked.append(loss)
            return x

    METHODS["mma"].images(Watched(), *images)
    assert asked == [soft_logit_margin]
