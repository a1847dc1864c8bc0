"""Stochastic networks: attacks on the expected answer, fresh draws that judge, who is refused."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import seeded
from pyautoattack import AutoAttack as Package
from small_study import Answers
from torch import nn

from tla.measure.answers import check_model
from tla.measure.autoattack import autoattack_columns
from tla.measure.draws import Stochastic, announced, expected_columns, right, strongest
from tla.measure.queries import square_columns
from tla.measure.suite import attack_columns, clean_columns, suite_metrics
from tla.outcomes import draw_std
from tla.params import AutoAttack, Draws, Precision, Square
from tla.report.tables import autoattack_line, draws_lines
from tla.train.bottleneck import Bottleneck
from tla.train.data import Split
from tla.train.models import Classifier
from tla.train.pgd import cross_entropy, input_gradient, pgd_linf, random_start

EPS, EXACT = 0.1, Precision("float32", 0)


@pytest.fixture(scope="module")
def noisy(networks):
    """The trained perceptron with much noise around its embedding: a chance of its own an image."""
    plain = copy.deepcopy(networks["mlp"]).float()
    network = Bottleneck(plain, draws=12, seed=0).eval().requires_grad_(False)
    nn.init.eye_(network.mean.weight)
    nn.init.zeros_(network.mean.bias)
    nn.init.zeros_(network.scale.weight)
    nn.init.constant_(network.scale.bias, 8.0)      # scale 3
    return network


@pytest.fixture(scope="module")
def split(images):
    x, y = images
    return Split(x.float(), y, torch.arange(len(y)))


def measured(network, attack=20, judge=20, seed=0):
    return announced(network, Draws(attack, judge), seed)


def frozen(network, noise):
    """What a network answers with one draw of noise, the same for every image."""
    def logits_fn(x):
        mean, scale = network.encode(x)
        return network.decode(mean, scale, noise.expand_as(mean))
    return logits_fn


# The expected answer

def test_eot_with_one_draw_is_pgd_on_that_draw(noisy, split, plain_attack):
    attack = plain_attack(random_start=True)
    exact, x = copy.deepcopy(noisy).double(), split.x.double()
    model = measured(exact, attack=1)
    last, _ = strongest(model, x, split.y, attack, 10, EPS, seeded(5))
    expected = pgd_linf(frozen(exact, model.bank[0]), x, split.y, eps=EPS, step_size=0.2 * EPS,
                        steps=10, loss=cross_entropy, start=random_start(x, EPS, seeded(5)))
    torch.testing.assert_close(last, expected, rtol=0, atol=1e-9)


def test_its_gradient_is_that_of_the_mean_probability_over_draws(noisy, split):
    model = measured(noisy, attack=6)
    _, found = input_gradient(lambda x: model(x)[0], split.x, split.y, cross_entropy)
    shares, gradients = [], []
    for noise in model.bank:
        x = split.x.clone().requires_grad_()
        p = frozen(noisy, noise)(x).softmax(1)[range(len(x)), split.y]
        shares.append(p.detach())
        gradients.append(torch.autograd.grad(p.sum(), x)[0])
    mean = torch.stack(shares).mean(0).view(-1, 1, 1, 1)
    torch.testing.assert_close(found, -torch.stack(gradients).mean(0) / mean, rtol=1e-3, atol=1e-4)


def judged(model, split, attack, column="pgd_worst"):
    """Accuracy under an attack: the mean share of fresh draws."""
    columns = expected_columns(model, split.x, split.y, "pgd", attack, 0.15, seeded())
    return columns[column].mean().item()


@pytest.mark.parametrize("column", ["pgd_last", "pgd_worst"])
def test_without_eot_accuracy_is_overstated(column, noisy, split, plain_attack):
    """Fresh draws judge both: an attack on one draw breaks that draw and few others."""
    attack = plain_attack(steps=[30], rel_step_size=0.1)
    single = np.mean([judged(measured(noisy, 1, 200, seed), split, attack, column)
                      for seed in range(5)])
    average = judged(measured(noisy, 50, 200), split, attack, column)
    assert average + 0.05 < single < measured(noisy).shares(split.x, split.y).mean()


def test_one_draw_that_judges_itself_understates(noisy, split, plain_attack):
    """The draw that was attacked is no judge: it finds far less right than fresh ones do."""
    attack, model = plain_attack(steps=[30], rel_step_size=0.1), measured(noisy, 1, 200)
    last, _ = strongest(model, split.x, split.y, attack, 30, 0.15, seeded())
    own = (model(last)[0].argmax(1) == split.y).double().mean()
    assert own + 0.1 < model.shares(last, split.y).mean()


# Judges

def test_the_share_is_the_chance_of_the_class(split):
    """Of two classes and a linear network it is a normal distribution's."""
    plain = Classifier(nn.Identity(), nn.Flatten(), 64, 2)
    network = Bottleneck(plain, 1, 0).double().requires_grad_(False)
    x = split.x.double()
    mean, scale = network.encode(x)
    weight = network.head.weight[1] - network.head.weight[0]
    bias = network.head.bias[1] - network.head.bias[0]
    network.scale.bias += 6
    mean, scale = network.encode(x)
    z = (mean @ weight + bias) / (scale.square() @ weight.square()).sqrt()
    chance = (1 + torch.erf(z / math.sqrt(2))) / 2
    found = measured(network, judge=2000).shares(x, torch.ones_like(split.y))
    assert 0.2 < chance.min() < chance.max() < 0.8
    assert (found - chance).abs().max() < 4.5 * 0.5 / math.sqrt(2000)


def test_the_same_judges_are_asked_again_and_each_image_has_its_own(noisy, split):
    model = measured(noisy, judge=16)
    assert model.shares(split.x, split.y).equal(model.shares(split.x, split.y))
    same = Split(split.x[:1].expand(64, -1, -1, -1), split.y[:1].expand(64), split.idx)
    found = model.shares(same.x, same.y)
    assert len(found.unique()) > 2 and not found.mul(16).remainder(1).any()


def test_bank_and_judges_differ_and_change_with_the_seed_of_training(noisy, split):
    first, other = measured(noisy), measured(noisy, seed=1)
    assert not torch.equal(first.bank, other.bank) and first.seed != other.seed
    assert not torch.equal(first.bank[:12], noisy.bank)


def test_a_draw_that_is_not_finite_is_refused(noisy, split):
    broken = copy.deepcopy(noisy)
    broken.scale.bias.data.fill_(float("inf"))
    with pytest.raises(ValueError, match="a draw of the model .* not finite"):
        measured(broken).shares(split.x, split.y)


# Columns

def test_outcomes_are_shares_and_ordinary_networks_have_none(noisy, network, split, plain_attack):
    settings = {"eps": EPS, "precision": EXACT, "batch": 32, "seed": 0}
    for model, ordinary in ((measured(noisy), False), (copy.deepcopy(network).float(), True)):
        clean = clean_columns(model, split, batch=32)
        found = attack_columns(model, split, "pgd", plain_attack(steps=[2, 5]), **settings)
        assert list(found)[:2] == ["pgd_linf", "pgd_pred"]
        assert set(found) == {"pgd_linf", "pgd_pred", "pgd_2_last", "pgd_2_worst", "pgd_5_last",
                              "pgd_5_worst"}
        assert ("draws" in clean) != ordinary and found["pgd_linf"].max() <= EPS + 1e-6
        for outcome in (clean["clean"], found["pgd_5_last"], found["pgd_5_worst"]):
            assert outcome.dtype == (torch.uint8 if ordinary else torch.float64)
            assert ordinary or outcome.mul(20).round().unique().numel() > 5


def test_a_budget_is_the_run_of_so_many_steps(noisy, split, plain_attack):
    model = measured(noisy)
    attack = plain_attack(steps=[3, 7], random_start=True, restarts=2)
    several = expected_columns(model, split.x, split.y, "a", attack, EPS, seeded(1))
    alone = plain_attack(steps=[3], random_start=True, restarts=2)
    single = expected_columns(model, split.x, split.y, "a", alone, EPS, seeded(1))
    for convention in ("last", "worst"):
        assert several[f"a_3_{convention}"].equal(single[f"a_{convention}"])


def test_more_restarts_find_a_larger_margin_never_a_smaller(noisy, split, plain_attack):
    model, margins = measured(noisy), []
    for restarts in (1, 4):
        attack = plain_attack(random_start=True, restarts=restarts)
        _, worst = strongest(model, split.x, split.y, attack, 10, EPS, seeded(2))
        probability = model(worst)[0]
        true = probability.gather(1, split.y[:, None])[:, 0]
        margins.append(probability.scatter(1, split.y[:, None], -torch.inf).amax(1) - true)
    assert (margins[1] >= margins[0]).all() and (margins[1] > margins[0]).any()


def test_square_is_judged_by_draws(noisy, split):
    model = measured(noisy)
    found = square_columns(model, split, "square", Square("square", 20), eps=EPS, batch=64, seed=0)
    assert found["square_worst"].dtype == torch.float64
    assert found["square_worst"].mean() < model.shares(split.x, split.y).mean()


# AutoAttack

def test_autoattack_runs_its_version_for_random_networks_on_fresh_draws(noisy, split, monkeypatch):
    ran = []

    def watched(self, x, y, batch_size):
        answers = self.model(x), self.model(x)
        ran.append((self.attacks_to_run, self.version, self.apgd.eot_iter, batch_size,
                    torch.equal(*answers)))
        return x, y

    monkeypatch.setattr(Package, "run_standard_evaluation", watched)
    model = measured(noisy, attack=7)
    found = autoattack_columns(model, split, "autoattack", AutoAttack("autoattack", 40), eps=EPS,
                               batch=64, seed=0)
    assert ran == [(["apgd-ce"], "rand", 7, 40, False), (["apgd-dlr"], "rand", 7, 40, False)]
    for name in ("autoattack_apgd-ce_worst", "autoattack_worst"):
        assert found[name].equal(model.shares(split.x, split.y))
    assert [name for name in found if name.startswith("complaint_")] == [
        "complaint_random", "complaint_probabilities", "complaint_dynamic", "complaint_square"]


def test_what_autoattack_returns_is_judged_by_draws(noisy, split):
    few, model = split.take(slice(0, 12)), measured(noisy, attack=2)
    settings = {"eps": EPS, "batch": 64, "seed": 0}
    found = autoattack_columns(model, few, "autoattack", AutoAttack("autoattack", 40), **settings)
    again = autoattack_columns(model, few, "autoattack", AutoAttack("autoattack", 40), **settings)
    assert all(found[name].equal(again[name]) for name in found)
    assert not any(found[name].any() for name in found if name.startswith("complaint_"))
    assert found["autoattack_worst"].mean() < model.shares(few.x, few.y).mean()
    assert found["autoattack_linf"].max() <= EPS + 1e-6


# Who is refused

class Restless(nn.Module):
    """Answers with a draw each time; `stochastic` says whether it announces that."""

    def __init__(self, network, stochastic):
        super().__init__()
        self.network, self.head, self.stochastic = network, network.head, stochastic
        self.generator = seeded()
        self.encode, self.decode, self.expected = network.encode, network.decode, network.expected

    def forward(self, x):
        return self.network.draw(x, self.generator)


def test_a_random_network_is_refused_unless_it_announces_that(noisy, split):
    silent, open_ = Restless(noisy, False), Restless(noisy, True)
    assert announced(silent, Draws(3, 3), 0) is silent
    with pytest.raises(ValueError, match="differently when asked again"):
        check_model(announced(silent, Draws(3, 3), 0), split.x, 10)
    model = announced(open_, Draws(3, 3), 0)
    check_model(model, split.x, 10)
    assert isinstance(model, Stochastic)


def test_who_announces_nothing_is_measured_as_it_is(network):
    assert announced(network, Draws(3, 3), 0) is network


def test_an_announcement_excuses_nothing_else(noisy, split):
    for change, words in ((lambda z: z * float("nan"), "not finite"), (lambda z: z[:, :9], "shape"),
                          (lambda z: z.softmax(1), "probabilities")):
        model = measured(noisy)
        with pytest.raises(ValueError, match=words):
            check_model(Answers(model, change), split.x, 10)


def test_right_is_one_or_nothing_of_an_ordinary_network(network, split):
    found = right(network, split.x, split.y, (split.y + (split.idx % 2)) % 10)
    assert found.tolist() == [1, 0] * 32 and found.dtype == torch.uint8


# Rows, metrics, tables

def rows_of(clean, draws):
    rows = pd.DataFrame({"seed": 0, "idx": range(len(clean)), "clean": clean})
    for name in ("white-box", "robust", "pgd_20_last", "pgd_20_worst", "autoattack_worst"):
        rows[name] = clean
    return rows if draws is None else rows.assign(draws=draws)


def test_the_spread_is_that_of_the_accuracy_of_one_draw():
    rng, chance, draws = np.random.default_rng(0), np.array([0.1, 0.5, 0.9, 1.0] * 50), 30
    wins = rng.random((4000, draws, 200)) < chance
    observed = wins[:, 0].mean(1).std()
    found = [draw_std(pd.Series(one.mean(0)), draws) for one in wins[:200]]
    assert np.mean(found) == pytest.approx(observed, rel=0.05)
    assert draw_std(pd.Series([0.0, 1.0, 1.0]), 5) == 0


def test_metrics_and_tables_have_the_spread_of_a_stochastic_network_alone():
    listed = SimpleNamespace(attacks={})
    share = [0.5, 1.0, 0.0, 0.25]
    metrics = suite_metrics(rows_of(share, 20), listed)
    assert metrics["clean_accuracy"] == pytest.approx(0.4375)
    assert metrics["clean_draw_std"] == draw_std(pd.Series(share), 20) > 0
    assert not [name for name in suite_metrics(rows_of([1, 0, 1, 1], None), listed)
                if "draw" in name]
    assert list(draws_lines(rows_of([1, 0, 1, 1], None))) == []
    lines = {line["outcome"]: line for line in draws_lines(rows_of(share, 20))}
    assert lines["robust"]["accuracy"] == pytest.approx(0.4375) and lines["robust"]["draws"] == 20
    assert lines["robust"]["draw_std"] == metrics["robust_draw_std"]
    (line,) = autoattack_line(rows_of(share, 20))
    assert line["autoattack_worst"] == pytest.approx(0.4375)
