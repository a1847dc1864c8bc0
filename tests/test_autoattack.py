"""AutoAttack by its package: who is left after each attack, and what it complains of."""


import pytest
import torch
from pyautoattack import AutoAttack as Package
from small_study import Answers, masked

from tla.measure.autoattack import ATTACKS, autoattack_columns
from tla.outcomes import Outcome, is_outcome
from tla.params import AutoAttack
from tla.train.data import Split
from tla.train.pgd import cross_entropy, pgd_linf, random_start

EPS = 0.15
OUTCOMES = ["autoattack_apgd-ce_worst", "autoattack_apgd-t_worst", "autoattack_fab-t_worst",
            "autoattack_worst"]
COMPLAINTS = ["random", "probabilities", "dynamic", "square"]


@pytest.fixture(scope="module")
def split(images):
    """Forty digits: at 64 the attacks only take longer."""
    x, y = images
    return Split(x[:40].float(), y[:40], torch.arange(40) + 100)


def columns(model, split, **settings):
    settings = {"eps": EPS, "batch": 64, "seed": 0} | settings
    return autoattack_columns(model, split, "autoattack", AutoAttack("autoattack", 40), **settings)


@pytest.fixture(scope="module")
def attacked(net, split):
    return columns(net, split)


def pgd_accuracy(model, split):
    """The share that is correct after the worse of two runs of PGD: from the image, and random."""
    correct = torch.ones(len(split.y), dtype=torch.bool)
    for start in (split.x, random_start(split.x, EPS, torch.Generator().manual_seed(0))):
        x_adv = pgd_linf(lambda x: model(x)[0], split.x, split.y, eps=EPS, step_size=EPS / 10,
                         steps=50, loss=cross_entropy, start=start)
        correct &= model(x_adv)[0].argmax(1) == split.y
    return correct.float().mean().item()


# Outcomes

def test_every_attack_of_autoattack_leaves_a_subset_of_what_was_left(attacked, split, net):
    left = (net(split.x)[0].argmax(1) == split.y).byte()
    for name in OUTCOMES:
        assert (attacked[name] <= left).all()
        left = attacked[name]
    assert attacked["autoattack_linf"].max() <= EPS + 1e-6
    assert left.float().mean() <= pgd_accuracy(net, split)


def test_its_columns_are_outcomes_that_end_with_that_of_all_four(attacked):
    assert [name for name in attacked if is_outcome(name)] == OUTCOMES
    budgets = [Outcome.parse(name).budget for name in OUTCOMES]
    assert budgets == [*ATTACKS[:-1], None]
    assert list(attacked)[:2] == ["autoattack_linf", "autoattack_pred"]
    assert [name for name in attacked if name.startswith("complaint_")] == [
        f"complaint_{name}" for name in COMPLAINTS]


def test_the_image_returned_shows_who_is_broken(attacked, split):
    assert ((attacked["autoattack_pred"] == split.y) == attacked["autoattack_worst"].bool()).all()


def test_autoattack_is_the_same_twice(net, split):
    few = split.take(slice(0, 10))
    first, again = columns(net, few), columns(net, few)
    assert list(again) == list(first)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_images_that_are_misclassified_are_not_attacked(net, split):
    wrong = Split(split.x[:6], (net(split.x[:6])[0].argmax(1) + 1) % 10, split.idx[:6])
    found = columns(net, wrong)
    assert not found["autoattack_linf"].any()
    assert not any(found[name].any() for name in found if name != "autoattack_pred")


def test_its_images_pass_the_referee(net, split, monkeypatch):
    def cheat(self, x, y, batch_size):
        x_adv = (x + 2 * EPS * (0.5 - x).sign())
        return x_adv, net(x_adv)[0].argmax(1)

    monkeypatch.setattr(Package, "run_standard_evaluation", cheat)
    with pytest.raises(ValueError, match="more than eps"):
        columns(net, split)


# A masked gradient

def test_plain_pgd_rates_the_masked_model_robust_and_autoattack_breaks_it(net, split, attacked):
    found = columns(masked(net), split)["autoattack_worst"].float().mean()
    assert pgd_accuracy(masked(net), split) > pgd_accuracy(net, split) + 0.3
    assert found < pgd_accuracy(masked(net), split) - 0.3
    assert found <= attacked["autoattack_worst"].float().mean() + 0.05


# Complaints

def complaints(found):
    """The complaints that are raised, which must be so for every image or for none."""
    raised = set()
    for name in COMPLAINTS:
        column = found[f"complaint_{name}"]
        assert column.dtype == torch.uint8 and column.unique().numel() == 1
        raised |= {name} if column.any() else set()
    return raised


def test_autoattack_complains_of_nothing_where_nothing_is_wrong(attacked):
    assert complaints(attacked) == set()


@pytest.mark.parametrize(("change", "named"), [
    (lambda z: z + torch.randn_like(z), "random"), (lambda z: z.softmax(1), "probabilities")])
def test_the_checks_of_autoattack_name_what_is_wrong(change, named, net, split):
    found = complaints(columns(Answers(net, change), split.take(slice(0, 4))))
    assert named in found
    assert found <= {named, "square"}


class Dynamic(torch.nn.Module):
    """A model that computes a gradient itself, as a defense at test time does."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            torch.autograd.grad(self.network(point)[0].sum(), point)
        return self.network(x)


def test_a_model_that_computes_gradients_itself_is_dynamic(net, split):
    assert "dynamic" in complaints(columns(Dynamic(net), split.take(slice(0, 4))))


class Plateaus(torch.nn.Module):
    """Answers that change with the image although no gradient shows it: Square alone gets on."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        logits, embedding = self.network(x)
        flat = (5 * logits).round() / 5
        return flat + 0 * logits, embedding


def test_square_where_it_alone_breaks_images_is_a_complaint(net, split):
    """The package says so only if it runs all four itself, which nobody could look into."""
    few = split.take(slice(0, 6))
    found = columns(Plateaus(net), few)
    assert found["autoattack_worst"].sum() < found["autoattack_fab-t_worst"].sum()
    assert complaints(found) == {"square"}


def test_square_that_breaks_nothing_more_is_no_complaint(net, split, monkeypatch):
    """Nor are images that the others broke before, or that are misclassified."""
    ran = []

    def all_but_square(self, x, y, batch_size):
        ran.append(self.attacks_to_run[0])
        found = y.clone()
        if ran[-1] == "fab-t":
            found[0] = (found[0] + 1) % 10
        return x.clone(), found

    monkeypatch.setattr(Package, "run_standard_evaluation", all_but_square)
    few = split.take(slice(0, 6))
    found = columns(net, few)
    assert ran == list(ATTACKS) and complaints(found) == set()
    assert found["autoattack_fab-t_worst"].sum() == found["autoattack_apgd-t_worst"].sum() - 1


@pytest.mark.parametrize("name", ["probabilities", "dynamic"])
def test_complaints_of_one_model_are_not_those_of_the_next_in_the_same_process(name, net, split):
    few = split.take(slice(0, 4))
    model = Dynamic(net) if name == "dynamic" else Answers(net, lambda z: z.softmax(1))
    assert name in complaints(columns(model, few))
    assert complaints(columns(net, few)) == set()
