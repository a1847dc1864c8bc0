"""Methods and training: losses by hand, reductions to adversarial training, schedules, chance."""

import copy
import dataclasses
import math
import subprocess
import sys

import pytest
import torch
from conftest import PARAMS, seeded, unchanged
from torch.nn import functional as F

from tla.params import UserError
from tla.train.bottleneck import Bottleneck
from tla.train.chance import STREAMS, stream, stream_seed
from tla.train.checkpoints import save_model, training_key
from tla.train.data import TEST, VALIDATION
from tla.train.losses import cosine_distance
from tla.train.methods import METHODS, ModelId, label, load_study, parse_model
from tla.train.mining import Miner
from tla.train.pgd import Adversary, pgd_linf, random_start
from tla.train.resume import Resume
from tla.train.training import Batch, Diverged, Trainer, lr_factor, make_optimizer, train_model

MODELS = ["um", "at", "alp", "kurakin", "trades", "mma", "vib", "at-norm", "tla-sa", "tla-b1",
          "tla-b20", "tla"]
SMALL = {"models": MODELS, "model.widths": [16, 8], "train.batch": 32, "train.epochs": 3,
         "train.validate_every": 10, "attack.steps": 3, "attack.rel_step_size": 0.4}
TLA_OFF = {"methods.tla.lambda1": 0.0, "methods.tla.lambda2": 0.0}


@pytest.fixture
def small(make_params):
    """Parameters of a training of a fraction of a second, with other values under dotted keys."""
    return lambda changes=None: make_params(SMALL | (changes or {}))


def trainer_of(name, params, data, seed=0):
    return Trainer(params, name, seed, 0, data)


def part(method, **values):
    """The section of a method with these values."""
    return METHODS[method].Parameters(lr=0.1, **values)


def loss_of(method, model, batch, **values):
    """Loss and log of a method with these values of its section."""
    return METHODS[method].loss(model, batch, part(method, **values))


@pytest.fixture
def train(dataset, tmp_path, monkeypatch):
    """Trains one seed of a named model; unfinished work is kept after every epoch, in tmp_path."""
    monkeypatch.chdir(tmp_path)

    def train_named(name, params, seed=0):
        resume = Resume("work", training_key(params, name, seed), seconds=0)
        return train_model(trainer_of(name, params, dataset, seed), resume, iter)
    return train_named


def same_weights(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# Losses of the methods, by hand

@pytest.fixture
def model(network):
    """A copy of the trained perceptron: TLA leaves the model it mines with in training mode."""
    return copy.deepcopy(network)


@pytest.fixture
def batch(images):
    """Eight digits of different classes, moved, and a miner whose pool is all of them."""
    first = [int((images[1] == k).nonzero()[0]) for k in range(8)]
    x, y = images[0][first], images[1][first]
    x_adv = random_start(x, 0.2, seeded())
    return Batch(x, x_adv, y, 0.0, Miner(x, y, len(x), unchanged, seeded()))


def cross_entropy_by_hand(logits, y, smoothing=0.0):
    log_p = logits.log_softmax(1)
    true = log_p[range(len(y)), y]
    return -((1 - smoothing) * true + smoothing * log_p.mean(1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("method", "which"), [("um", "x"), ("at", "x_adv")])
def test_cross_entropy_of_clean_or_adversarial_images(method, which, smoothing, batch, model):
    batch = dataclasses.replace(batch, smoothing=smoothing)
    loss, _ = loss_of(method, model, batch)
    expected = cross_entropy_by_hand(model(getattr(batch, which))[0], batch.y, smoothing).mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(("pair", "which"), [("logits", 0), ("embedding", 1)])
def test_pairing_adds_the_squared_distance(pair, which, batch, model):
    loss, logs = loss_of("alp", model, batch, weight=0.7, pair=pair)
    difference = model(batch.x_adv)[which] - model(batch.x)[which]
    distance = sum(float(v) ** 2 for v in difference.flatten()) / 8
    at, _ = loss_of("at", model, batch)
    assert loss.item() == pytest.approx(at.item() + 0.7 * distance)
    assert logs["pair_distance"] == pytest.approx(distance)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_kurakin_weighs_adversarial_against_clean_images(smoothing, batch, model):
    """Two of eight are adversarial with weight 0.3: the weights are 0.3 / 6.6 and 1 / 6.6."""
    batch = dataclasses.replace(batch, smoothing=smoothing)
    loss, _ = loss_of("kurakin", model, batch, adversarial_share=0.25, adversarial_weight=0.3)
    adversarial = cross_entropy_by_hand(model(batch.x_adv[:2])[0], batch.y[:2], smoothing)
    clean = cross_entropy_by_hand(model(batch.x[2:])[0], batch.y[2:], smoothing)
    torch.testing.assert_close(loss, (0.3 * adversarial.sum() + clean.sum()) / 6.6)


def test_trades_adds_the_divergence_of_adversarial_from_clean_predictions(batch, model):
    loss, logs = loss_of("trades", model, batch, beta=0.5)
    clean, adv = (model(x)[0].softmax(1) for x in (batch.x, batch.x_adv))
    divergence = (clean * (clean.log() - adv.log())).sum() / 8
    classified = F.cross_entropy(model(batch.x)[0], batch.y)
    torch.testing.assert_close(loss, classified + 0.5 * divergence)
    assert logs["divergence"] == pytest.approx(divergence.item())


@pytest.mark.parametrize(("twin", "same_class"), [(True, False), (False, True), (True, True)])
def test_norm_control_adds_the_norm_term_of_tla_alone(twin, same_class, batch, model):
    """That of TLA's triplets, one a kind of positive: three embeddings each."""
    loss, _ = loss_of("at-norm", model, batch, lambda2=0.4, twin=twin, same_class=same_class,
                      mining_batch=8)
    margins = {"margin_twin": 0.4 if twin else None, "margin_class": 0.4 if same_class else None}
    tla, _ = loss_of("tla", model, batch, lambda1=0.0, lambda2=0.4, **margins)
    _, norm = triplets_by_hand(model, batch, 0.4, switched=False, mined_for="adversarial")
    at = loss_of("at", model, batch)[0].item()
    assert loss.item() == pytest.approx(at + 0.4 * norm * (twin + same_class))
    assert loss.item() == pytest.approx(tla.item())


def test_a_norm_control_of_nothing_is_refused():
    with pytest.raises(ValueError, match="cannot both be false"):
        part("at-norm", lambda2=0.2, twin=False, same_class=False, mining_batch=8)


def triplets_by_hand(model, batch, margin, switched, mined_for):
    """Triplet and norm term of the clean twin, with one image a class the only positive of it."""
    anchor, positive = model(batch.x_adv)[1], model(batch.x)[1]
    features = positive if mined_for == "clean" else anchor
    losses, negatives = [], []
    for i in range(len(batch.y)):
        cosines = [-2.0 if j == i else F.cosine_similarity(features[i], positive[j], dim=0).item()
                   for j in range(len(batch.y))]
        negative = positive[cosines.index(max(cosines))]
        from_ = positive[i] if switched else anchor[i]
        near = cosine_distance(anchor[i][None], positive[i][None]).item()
        far = cosine_distance(from_[None], negative[None]).item()
        losses.append(max(0.0, near - far + margin))
        negatives.append(negative)
    norm = sum(h.square().mean().item() for h in (anchor, positive, torch.stack(negatives)))
    return sum(losses) / len(losses), norm


@pytest.mark.parametrize(("switched", "mined_for"), [
    (False, "adversarial"), (True, "clean"), (True, "adversarial")],
    ids=["tla", "tla-sa", "authors' tla-sa"])
@pytest.mark.parametrize(("twin", "same_class"), [(0.4, None), (None, 0.4), (0.2, 0.5)])
def test_tla_adds_a_triplet_and_a_norm_term_for_each_margin(
        twin, same_class, switched, mined_for, batch, model):
    values = dict(lambda1=1.5, lambda2=0.2, margin_twin=twin, margin_class=same_class)
    if switched:
        loss, _ = loss_of("tla-sa", model, batch, **values, mined_for=mined_for, mining_batch=8)
    else:
        loss, _ = loss_of("tla", model, batch, **values)
    expected = loss_of("at", model, batch)[0].item()
    for margin in filter(None, (twin, same_class)):
        triplet, norm = triplets_by_hand(model, batch, margin, switched, mined_for)
        assert triplet > 0
        expected += 1.5 * triplet + 0.2 * norm
    assert loss.item() == pytest.approx(expected)


def test_tla_without_any_triplet_is_refused():
    with pytest.raises(ValueError, match="cannot both be null"):
        part("tla", lambda1=1.5, lambda2=0.2, margin_twin=None, margin_class=None)


def test_without_batch_norm_each_image_has_one_pass(batch, model):
    """The anchors' pass for the loss serves mining; positives and negatives share theirs."""
    passes = []
    model.train().register_forward_hook(
        lambda _, images, outputs: passes.append((torch.is_grad_enabled(), len(images[0]))))
    loss_of("tla", model, batch, lambda1=1.5, lambda2=0.2, margin_twin=0.1, margin_class=0.1)
    n = len(batch.x)
    assert passes == [(True, n), (False, batch.miner.batch), (True, 3 * n)]


def test_tla_mines_in_evaluation_mode_and_trains_in_training_mode(batch, model):
    """Of a network with batch norm, whose features are others in the two."""
    modes, passes = [], []

    def note(module, images):
        modes.append((torch.is_grad_enabled(), module.training))
        if torch.is_grad_enabled():
            passes.append(len(images[0]))

    model.body.append(torch.nn.BatchNorm1d(model.head.in_features, dtype=batch.x.dtype))
    model.train().register_forward_pre_hook(note)
    loss_of("tla", model, batch, lambda1=1.5, lambda2=0.2, margin_twin=0.1, margin_class=0.1)
    assert set(modes) == {(False, False), (True, True)}
    assert passes == [len(batch.x)] * 4, "each of the four has the statistics of its own batch"
    assert model.training


def test_anchors_without_a_negative_have_no_triplet_loss(batch, model):
    y = torch.zeros_like(batch.y)
    batch = dataclasses.replace(batch, y=y, miner=Miner(batch.x, y, len(y), unchanged, seeded()))
    loss, logs = loss_of("tla", model, batch, lambda1=1.5, lambda2=0.0, margin_twin=0.4,
                         margin_class=0.4)
    assert loss.item() == loss_of("at", model, batch)[0].item()
    assert logs["no_negative"] == 1 and logs["active_triplets"] == 0


def test_the_log_shows_a_collapsed_embedding(batch, model):
    """All embeddings equal: every triplet is active and its loss is the margin."""
    with torch.no_grad():
        for parameter in model.body.parameters():
            parameter.zero_()
        model.body[-2].bias.fill_(1.0)
    _, logs = loss_of("tla", model, batch, lambda1=1.0, lambda2=0.1, margin_twin=0.3,
                      margin_class=0.1)
    assert logs["active_triplets"] == 1
    assert logs["loss_over_margin"] == pytest.approx(1)
    assert logs["positive_distance"] == pytest.approx(0, abs=1e-12)
    assert logs["negative_distance"] == pytest.approx(0, abs=1e-12)
    assert logs["norm_term"] == pytest.approx(3)


def test_tla_gives_gradient_through_anchor_positive_and_negative(batch, model):
    """The gradient of the whole differs from that through any two of the three embeddings."""
    model.requires_grad_(True)
    tla, _ = loss_of("tla", model, batch, lambda1=1.0, lambda2=0.0, margin_twin=2.0,
                     margin_class=None)
    loss = tla - loss_of("at", model, batch)[0]
    kernel = model.body[1].weight
    (gradient,) = torch.autograd.grad(loss, kernel)
    model.eval()
    miner = Miner(batch.x, batch.y, 8, unchanged, seeded(1))
    mined, _ = miner.negatives(model, model(batch.x_adv)[1], batch.y)
    parts = [model(images)[1] for images in (batch.x_adv, batch.x, mined)]

    def through(*kept):
        a, p, n = (part if i in kept else part.detach() for i, part in enumerate(parts))
        value = (cosine_distance(a, p) - cosine_distance(a, n) + 2.0).mean()
        return torch.autograd.grad(value, kernel, retain_graph=True)[0]

    torch.testing.assert_close(gradient, through(0, 1, 2))
    for pair in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(gradient, through(*pair))


# Training images

ATTACK = dict(eps=0.1, step_size=0.03, steps=4)


def training_images(method, logits_fn, images, smoothing=0.0, seed=5):
    """What a method trains on, from the random starts of a seed."""
    adversary = Adversary(logits_fn, **ATTACK, smoothing=smoothing, generator=seeded(seed))
    return METHODS[method].images(adversary, *images)


def ascended(logits_fn, images, loss, seed=5):
    """PGD on a loss from the random starts of a seed."""
    start = random_start(images[0], ATTACK["eps"], seeded(seed))
    return pgd_linf(logits_fn, *images, start=start, loss=loss, **ATTACK)


def test_undefended_training_images_are_the_clean_ones(logits_fn, images):
    assert training_images("um", logits_fn, images) is images[0]


def test_kurakin_training_images_are_one_step_of_size_eps_from_the_image(logits_fn, images):
    x, y = images
    x_adv = training_images("kurakin", logits_fn, images)
    point = x.clone().requires_grad_()
    F.cross_entropy(logits_fn(point), y, reduction="sum").backward()
    expected = (x + 0.1 * point.grad.sign()).clamp(0, 1)
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.6])
@pytest.mark.parametrize("method", ["at", "alp", "at-norm", "tla", "tla-sa", "vib"])
def test_other_training_images_raise_the_smoothed_cross_entropy_from_a_random_start(
        method, smoothing, logits_fn, images):
    x_adv = training_images(method, logits_fn, images, smoothing)
    expected = ascended(logits_fn, images,
                        lambda logits, y: cross_entropy_by_hand(logits, y, smoothing))
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-12)


def test_trades_training_images_raise_the_divergence_from_the_clean_prediction(logits_fn, images):
    clean = logits_fn(images[0]).softmax(1)

    def divergence(logits, labels):
        return (clean * (clean.log() - logits.log_softmax(1))).sum(1)

    x_adv = training_images("trades", logits_fn, images, smoothing=0.3)
    expected = ascended(logits_fn, images, divergence)
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-12)


def test_training_images_are_made_in_evaluation_mode(small, dataset, monkeypatch):
    trainer, modes = trainer_of("at", small(), dataset), []
    images = METHODS["at"].images

    def noted(adversary, x, y):
        modes.append(trainer.network.training)
        return images(adversary, x, y)

    monkeypatch.setattr(METHODS["at"], "images", noted)
    trainer.epoch()
    trainer.epoch()
    assert modes == [False] * 8


def test_trades_without_its_divergence_trains_exactly_like_um(small, dataset):
    params = small({"methods.trades.beta": 0.0})
    trades, um = trainer_of("trades", params, dataset), trainer_of("um", params, dataset)
    for _ in range(2):
        trades.epoch()
        um.epoch()
    assert same_weights(trades.network.state_dict(), um.network.state_dict())


# Reductions: without batch norm, a method whose weights are zero is plain adversarial training

@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(("name", "off"), [
    ("tla-b20", TLA_OFF), ("tla-b1", TLA_OFF),
    ("tla", TLA_OFF | {"mining.batch": 25}),
    ("tla-sa", {"methods.tla-sa.lambda1": 0.0, "methods.tla-sa.lambda2": 0.0,
                "methods.tla-sa.mining_batch": 20}),
    ("alp", {"methods.alp.weight": 0.0}),
    ("alp", {"methods.alp.weight": 0.0, "methods.alp.pair": "embedding"}),
    ("at-norm", {"methods.at-norm.lambda2": 0.0, "methods.at-norm.mining_batch": 20})])
def test_weight_zero_trains_exactly_like_at(name, off, optimizer, small, dataset):
    params = small(off | {"train.optimizer": optimizer})
    method, at = trainer_of(name, params, dataset), trainer_of("at", params, dataset)
    for _ in range(2):
        method.epoch()
        at.epoch()
    assert same_weights(method.network.state_dict(), at.network.state_dict())


@pytest.mark.parametrize("name", [name for name in MODELS if name != "at"])
def test_every_model_trains_otherwise_than_at(name, small, dataset):
    params = small({"methods.tla-sa.mining_batch": 20, "methods.at-norm.mining_batch": 20,
                    "mining.batch": 30})
    method, at = trainer_of(name, params, dataset), trainer_of("at", params, dataset)
    method.epoch()
    at.epoch()
    assert not same_weights(method.network.state_dict(), at.network.state_dict())


# Schedules

def factors(params, steps, **changes):
    train = dataclasses.replace(params.train, **changes)
    return [lr_factor(train, step, steps) for step in range(steps)]


@pytest.mark.parametrize(("changes", "expected"), [
    ({"schedule": "constant"}, [1.0] * 10),
    ({"schedule": "triangular"}, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]),
    ({"schedule": "piecewise", "epochs": 5, "milestones": [2, 4]},
     [1.0] * 4 + [0.1] * 4 + [0.01] * 2),
    ({"schedule": "cosine"},
     [0.5 + 0.5 * math.cos(math.pi * step / 10) for step in range(10)]),
])
def test_learning_rate_over_ten_steps(changes, expected, params):
    assert factors(params, 10, **changes) == pytest.approx(expected)


def test_cosine_halves_the_rate_midway_and_never_reaches_zero(params):
    rates = factors(params, 100, schedule="cosine")
    assert rates[0] == 1 and rates[50] == pytest.approx(0.5) and 0 < rates[99] < 0.001
    assert all(later < earlier for earlier, later in zip(rates, rates[1:], strict=False))


def test_the_schedule_spans_all_epochs(small, dataset):
    trainer = trainer_of("at", small({"train.schedule": "triangular"}), dataset)
    assert trainer.steps_per_epoch == 4
    seen = []
    for _ in range(3):
        trainer.epoch()
        seen.append(trainer.optimizer.param_groups[0]["lr"] / trainer.weights.lr)
    assert seen == pytest.approx([2 * 4 / 12, 2 * 5 / 12, 2 * 1 / 12])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_model_is_trained_at_the_learning_rate_of_its_method(optimizer, small, dataset):
    """A pool of its own takes that of TLA."""
    params = small({"methods.alp.lr": 0.03, "methods.tla.lr": 0.05, "train.optimizer": optimizer,
                    "train.schedule": "constant", "mining.batch": 25,
                    "methods.tla-sa.mining_batch": 20})
    for name, lr in {"at": 0.01, "alp": 0.03, "tla": 0.05, "tla-b20": 0.05, "tla-sa": 0.01}.items():
        trainer = trainer_of(name, params, dataset)
        rates = [group["lr"] for group in trainer.optimizer.param_groups]
        trainer.epoch()
        assert rates == [group["lr"] for group in trainer.optimizer.param_groups] == [lr, lr]


@pytest.mark.parametrize(("name", "key"), [("at", "at"), ("tla-b20", "tla")])
def test_a_diverging_training_names_the_learning_rate_to_lower(name, key, small, dataset):
    params = small({f"methods.{key}.lr": 100.0, "train.weight_decay": 1e5,
                    "train.optimizer": "sgd"})
    with pytest.raises(Diverged) as stopped:
        trainer_of(name, params, dataset).epoch()
    assert isinstance(stopped.value, UserError) and "\n" not in str(stopped.value)
    assert name in str(stopped.value) and f"methods.{key}.lr" in str(stopped.value)


def test_weights_that_become_infinite_in_the_last_step_stop_a_training(small, dataset, monkeypatch):
    """Its loss, computed before, is still a number."""
    trainer = trainer_of("at", small({}), dataset)

    def last_step(rows, step):
        trainer.network.head.bias.data[0] = float("inf")
        return {"loss": torch.tensor(0.5)}

    monkeypatch.setattr(trainer, "_step", last_step)
    with pytest.raises(Diverged, match="methods.at.lr: "):
        trainer.epoch()


@pytest.mark.parametrize("name", METHODS)
def test_a_learning_rate_that_would_overflow_is_refused(name, small):
    with pytest.raises(UserError, match=f"methods.{name}.lr: .*less than or equal to 100, got 1e"):
        small({f"methods.{name}.lr": 1e30})


RAMP = [(0, 1 / 8), (3, 4 / 8), (7, 1.0), (8, 1.0), (50, 1.0)]     # of two epochs of four steps


def farthest(trainer, done):
    """The largest change of a pixel of a training image after so many steps of training."""
    x, y = trainer.train.x, trainer.train.y
    return (METHODS["at"].images(trainer._adversary(done), x, y) - x).abs().max().item()


def test_eps_grows_linearly_during_the_ramp_and_then_stays(small, dataset):
    trainer = trainer_of("at", small({"train.eps_ramp_epochs": 2}), dataset)
    for done, share in RAMP:
        assert farthest(trainer, done) == pytest.approx(share * 0.15, rel=1e-5)


def test_without_a_ramp_training_starts_at_full_eps(small, dataset):
    trainer = trainer_of("at", small(), dataset)
    assert farthest(trainer, 0) == pytest.approx(0.15, rel=1e-5)


@pytest.mark.parametrize("eps", [0.15, 0.3, 0.05])
@pytest.mark.parametrize("share", [0.25, 0.4])
def test_steps_of_training_follow_eps_in_the_ramp_too(eps, share, small, dataset):
    changes = {"attack.eps": eps, "attack.rel_step_size": share, "train.eps_ramp_epochs": 2}
    trainer = trainer_of("at", small(changes), dataset)
    for done, grown in RAMP:
        adversary = trainer._adversary(done)
        assert adversary.eps == pytest.approx(grown * eps)
        assert adversary.step_size == pytest.approx(share * grown * eps)
        assert adversary.steps == 3


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_every_weight_is_trained_and_decay_acts_on_kernels_only(optimizer, network, params):
    train = dataclasses.replace(params.train, optimizer=optimizer, weight_decay=0.01, momentum=0.7)
    trained = []
    for group in make_optimizer(network, train, 0.1).param_groups:
        assert group["lr"] == 0.1 and group.get("momentum", 0.7) == 0.7
        for parameter in group["params"]:
            trained.append(id(parameter))
            assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0.0)
    assert sorted(trained) == sorted(map(id, network.parameters()))


def test_labels_are_smoothed_in_the_loss_and_in_the_attack(small, dataset, monkeypatch):
    trainer, seen = trainer_of("at", small({"train.label_smoothing": 0.3}), dataset), set()
    loss = METHODS["at"].loss

    def noted(model, batch, weights):
        seen.add(batch.smoothing)
        return loss(model, batch, weights)

    monkeypatch.setattr(METHODS["at"], "loss", noted)
    trainer.epoch()
    assert seen == {0.3} and trainer._adversary(0).smoothing == 0.3


def test_the_batch_is_of_cropped_and_mirrored_images(small, dataset, monkeypatch):
    trainer, seen = trainer_of("um", small({"train.crop_padding": 1, "train.flip": True}),
                               dataset), []
    loss = METHODS["um"].loss

    def noted(model, batch, weights):
        seen.append(batch.x)
        return loss(model, batch, weights)

    monkeypatch.setattr(METHODS["um"], "loss", noted)
    monkeypatch.setattr("tla.train.training.augment", lambda x, padding, flip, generator:
                        torch.full_like(x, padding + 0.5 * flip))
    trainer.epoch()
    assert all((x == 1.5).all() for x in seen) and seen


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_forward_passes_are_in_the_precision_of_the_parameters(precision, small, dataset):
    trainer = trainer_of("at", small({"train.precision": precision}), dataset)
    with trainer._precision():
        assert torch.is_autocast_enabled("cpu") == (precision == "bfloat16")
    trainer.epoch()
    assert {p.dtype for p in trainer.network.parameters()} == {torch.float32}


STEP = """
import sys, torch
from tla.train.methods import load_study
from tla.train.training import make_optimizer
network = torch.nn.Linear(3, 2)
optimizer = make_optimizer(network, load_study(sys.argv[1]).train, 0.1)
before = network.weight.clone()
optimizer.zero_grad()
network(torch.ones(4, 3)).sum().backward()
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules or bool((network.weight == before).any()))
"""


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_training_step_does_not_load_the_compiler(optimizer, write_params):
    """It takes 1.5 s of every process that trains, and steps without it are the same."""
    path = write_params({"train.optimizer": optimizer})
    subprocess.run([sys.executable, "-c", STEP, path], cwd=PARAMS.parent / "stages", check=True)


# Chance and the checkpoint

def test_every_use_of_chance_has_a_stream_of_its_own():
    seeds = [stream_seed(seed, name) for seed in range(10) for name in STREAMS]
    assert len(set(seeds)) == len(seeds)


def test_a_stream_is_repeatable():
    device = torch.device("cpu")
    a, b = (torch.rand(5, generator=stream(3, "attack", device)) for _ in range(2))
    assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["at", "kurakin", "tla-b20", "tla-b1"])
def test_same_seed_trains_the_same_bytes(name, small, dataset, train, tmp_path):
    params = small({"train.validate_every": 1})
    files, logs = [], []
    for i in range(2):
        torch.manual_seed(i)    # the state of the global generator must not matter
        network, log = train(name, params, seed=3)
        path = tmp_path / f"{i}.safetensors"
        save_model(path, network, params, name, 3, dataset)
        files.append(path.read_bytes())
        logs.append(log)
    assert files[0] == files[1]
    assert logs[0] == logs[1]


def test_another_seed_trains_other_weights(small, train):
    a, b = (train("at", small(), seed)[0] for seed in (0, 1))
    assert not same_weights(a.state_dict(), b.state_dict())


@pytest.mark.parametrize(("scores", "chosen"), [
    ([(16, 20), (24, 20), (20, 32)], 2),        # the highest robust accuracy, whatever the clean
    ([(24, 20), (24, 30), (24, 25)], 2),        # ties go to clean accuracy
    ([(24, 30), (24, 30), (24, 29)], 2),        # and then to the later epoch
    ([(0, 0), (0, 0), (0, 0)], 3),
    ([(8, 9), (7, 32), (7, 32)], 1),
])
def test_checkpoint_has_the_best_validation_robust_accuracy(
        scores, chosen, small, dataset, monkeypatch):
    trainer = trainer_of("at", small({"train.validate_every": 1}), dataset)
    rows = torch.arange(len(trainer.held.y))
    outcomes = iter([(rows < clean, rows < robust) for robust, clean in scores])
    monkeypatch.setattr("tla.train.training.robust", lambda *_, **__: next(outcomes))
    weights = []
    for _ in scores:
        trainer.epoch()
        weights.append(copy.deepcopy(trainer.network.state_dict()))
    assert [same_weights(trainer.best, w) for w in weights] == [i + 1 == chosen for i in range(3)]


def test_a_model_of_clean_selection_keeps_the_checkpoint_with_the_best_clean_accuracy(
        small, dataset):
    """Its log repeats clean accuracy as robust; others are chosen under attack as before."""
    params = small({"clean_selection": ["um"], "train.validate_every": 1, "attack.eps": 1.0})
    assert params.trained_with("at") is params
    trainer, weights = trainer_of("um", params.trained_with("um"), dataset), []
    for _ in range(3):
        trainer.epoch()
        weights.append(copy.deepcopy(trainer.network.state_dict()))
    clean = [row["validation_clean_accuracy"] for row in trainer.log]
    assert [row["validation_robust_accuracy"] for row in trainer.log] == clean and max(clean) > 0
    last = max(epoch for epoch in range(3) if clean[epoch] == max(clean))
    assert same_weights(trainer.best, weights[last])


def test_training_returns_the_chosen_weights_in_evaluation_mode(small, dataset, train, monkeypatch):
    """The first epoch scores highest, so the weights are not those training ended with."""
    params = small({"train.validate_every": 1})
    first = trainer_of("at", params, dataset)
    first.epoch()
    rows, scores = torch.arange(len(first.held.y)), iter([20, 12, 5])
    monkeypatch.setattr("tla.train.training.robust",
                        lambda *_, **__: (rows < 20, rows < next(scores)))
    network, _ = train("at", params)
    assert same_weights(network.state_dict(), first.network.state_dict())
    assert not any(module.training for module in network.modules())


def test_validation_comes_every_so_many_epochs_and_after_the_last(small, train):
    _, log = train("at", small({"train.epochs": 5, "train.validate_every": 2}))
    assert [row["epoch"] for row in log] == [1, 2, 3, 4, 5]
    assert [row["epoch"] for row in log if "validation_robust_accuracy" in row] == [2, 4, 5]


def test_training_survives_a_network_that_is_robust_nowhere(small, train):
    """At a large eps no image survives the first selection attack; the second has none to do."""
    _, log = train("um", small({"train.validate_every": 1, "attack.eps": 1.0}))
    assert log[-1]["validation_robust_accuracy"] == 0


# Batch norm while images are made, and what chooses the checkpoint

NORMED = {"model.architecture": "convnet-bn", "model.widths": [4, 8, 6]}


def statistics(network):
    return {name: value.clone() for name, value in network.named_buffers() if "running" in name}


@pytest.mark.parametrize("mode", ["evaluation", "training"])
def test_an_attack_moves_running_statistics_in_training_mode_alone(mode, small, dataset):
    """By each of its steps: as many batches are counted."""
    trainer = trainer_of("at", small(NORMED | {"attack.mode": mode}), dataset)
    before, steps = statistics(trainer.network), trainer.params.attack.steps
    x, y = trainer.train.x[:32], trainer.train.y[:32]
    trainer._images(x, y, done=0)
    after = statistics(trainer.network)
    assert before and same_weights(before, after) == (mode == "evaluation")
    seen = {name: value.item() for name, value in trainer.network.named_buffers()
            if "num_batches" in name}
    assert set(seen.values()) == {steps if mode == "training" else 0}
    assert trainer.network.training


def test_in_training_mode_an_image_is_attacked_beside_its_batch(small, dataset):
    """Its change then hangs on the images beside it; in evaluation mode it does not."""
    for mode, alike in (("evaluation", True), ("training", False)):
        made = []
        for others in (slice(1, 16), slice(16, 31)):
            trainer = trainer_of("at", small(NORMED | {"attack.mode": mode}), dataset)
            x = torch.cat([trainer.train.x[:1], trainer.train.x[others]])
            y = torch.cat([trainer.train.y[:1], trainer.train.y[others]])
            made.append(trainer._images(x, y, done=0)[0])
        assert torch.allclose(*made) == alike, mode


def test_without_batch_norm_the_mode_of_the_attack_changes_nothing(small, train):
    a, b = (train("at", small({"attack.mode": mode}))[0] for mode in ("evaluation", "training"))
    assert same_weights(a.state_dict(), b.state_dict())


@pytest.mark.parametrize(("part", "first", "expected"), [
    ("validation", None, VALIDATION), ("validation", 9, VALIDATION), ("test", None, TEST),
    ("test", 9, TEST)])
def test_checkpoints_are_chosen_on_the_first_images_of_the_part(
        part, first, expected, small, dataset, monkeypatch):
    params = small({"train.selection_images": {"part": part, "first": first}})
    asked = []

    def watched(logits_fn, x, y, *_, **__):
        asked.append((x, y))
        return y == y, y == y

    monkeypatch.setattr("tla.train.training.robust", watched)
    trainer = trainer_of("at", params, dataset)
    trainer._validate()
    ((x, y),), whole = asked, dataset.split(0, expected)
    assert torch.equal(x, whole.x[:first]) and torch.equal(y, whole.y[:first])
    assert len(y) == (first or len(whole.y))


def test_the_log_says_which_part_chose(small, train):
    params = small({"train.selection_images": {"part": "test", "first": 20}})
    row = train("um", params)[1][-1]
    assert "test_robust_accuracy" in row and "validation_robust_accuracy" not in row


def test_what_chooses_the_checkpoint_does_not_touch_the_training(small, dataset):
    """The same weights are chosen from, whoever chooses."""
    weights = []
    for part in ("validation", "test"):
        params = small({"train.selection_images": {"part": part, "first": None}})
        trainer = trainer_of("tla-b20", params, dataset)
        for _ in range(3):
            trainer.epoch()
        weights.append(trainer.network.state_dict())
    assert same_weights(*weights)


# The folder of methods and the names of models

every_method = pytest.mark.parametrize("method", METHODS)
# Every listed name of params.yaml: its method, its pool, what tables call it.
NAMES = {
    "um": ("um", None, "UM"), "at": ("at", None, "AT"), "alp": ("alp", None, "ALP"),
    "kurakin": ("kurakin", None, "Kurakin"), "trades": ("trades", None, "TRADES"),
    "mma": ("mma", None, "MMA"), "vib": ("vib", None, "VIB"),
    "at-norm": ("at-norm", 300, "AT + norm"), "tla-sa": ("tla-sa", 300, "TLA-SA"),
    "tla-b1": ("tla", 1, "TLA-RN"), "tla-b30": ("tla", 30, "TLA, pool 30"),
    "tla-b100": ("tla", 100, "TLA, pool 100"), "tla-b1000": ("tla", 1000, "TLA, pool 1000"),
    "tla": ("tla", 300, "TLA")}


@every_method
def test_a_method_file_says_all_that_a_method_is(method):
    module = METHODS[method]
    assert isinstance(module.LABEL, str) and module.LABEL
    assert isinstance(module.MINES, bool) and isinstance(module.BASELINES, tuple)
    assert dataclasses.is_dataclass(module.Parameters)
    assert "lr" in {field.name for field in dataclasses.fields(module.Parameters)}
    for said in (module, module.Parameters, module.images, module.loss):
        assert (said.__doc__ or "").strip(), f"{said} has no docstring"


@every_method
def test_a_method_is_set_against_methods_that_are_there(method):
    """And, of all, exactly the undefended one against none."""
    baselines = METHODS[method].BASELINES
    assert set(baselines) <= METHODS.keys() - {method}
    assert (baselines == ()) == (method == "um")


def test_labels_of_methods_differ():
    assert len({module.LABEL for module in METHODS.values()}) == len(METHODS)


def test_the_folder_is_the_list_of_methods():
    assert set(METHODS) == {method for method, _, _ in NAMES.values()}


@every_method
def test_exactly_the_methods_that_mine_need_a_miner(method, params, batch, model):
    """Without one the loss of a method that mines has nowhere to take triplets from."""
    without = dataclasses.replace(batch, miner=None)
    if method == "vib":
        model = Bottleneck(model, 3, seed=0).double()
    if METHODS[method].MINES:
        with pytest.raises(AttributeError):
            METHODS[method].loss(model, without, params.methods[method])
    else:
        loss, _ = METHODS[method].loss(model, without, params.methods[method])
        assert loss.isfinite()


def test_importing_the_methods_imports_no_torch():
    """The reports read labels, and torch takes two seconds of every process."""
    code = "import sys; import tla.train.methods; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PARAMS.parent / "stages", check=True)


def test_the_models_of_the_study_are_those_of_the_table(params):
    assert set(params.models) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_good_name_is_a_method_and_a_pool(name, params):
    method, pool, _ = NAMES[name]
    assert parse_model(name, params) == ModelId(name, method, pool)


@pytest.mark.parametrize("name", NAMES)
def test_what_tables_call_a_model(name, params):
    assert label(name, params) == NAMES[name][2]


def test_labels_of_models_differ(params):
    assert len({label(name, params) for name in params.models}) == len(params.models)


def test_tla_follows_the_pool_of_the_study_and_nothing_else_does(make_params):
    params = make_params({"mining.batch": 50, "methods.tla-sa.mining_batch": 77,
                          "methods.at-norm.mining_batch": 78})
    pools = {name: parse_model(name, params).pool for name in params.models}
    expected = {name: pool for name, (_, pool, _) in NAMES.items()}
    assert pools == expected | {"tla": 50, "tla-sa": 77, "at-norm": 78}


def test_a_pool_of_one_is_called_random_only_where_it_is_swept(make_params):
    """The study's TLA stays TLA whatever its pool, or two columns would have one name."""
    names = ["um", "at", "alp", "tla"]
    alone = make_params({"mining.batch": 1, "models": names, "represent.models": names})
    assert label("tla", alone) == "TLA"
    assert label("tla-b1", make_params({})) == "TLA-RN"


@pytest.mark.parametrize("name", [
    "", "tla-b", "tla-b0", "tla-b-1", "tla-b3.0", "tla-b030", "tla-b30 ", "tla-b30\n", "TLA-b30",
    "at-b30", "tla-b31", "tla-sa-b31", "mart"], ids=repr)
def test_a_name_that_the_study_does_not_list_is_refused_with_those_it_does(name, params):
    with pytest.raises(UserError) as refused:
        parse_model(name, params)
    message = str(refused.value)
    assert "\n" not in message and repr(name) in message
    assert all(listed in message for listed in params.models)


def line_about(path):
    """The one line that a study is refused with; it begins with its file."""
    with pytest.raises(SystemExit) as refused:
        load_study(path)
    assert isinstance(refused.value, UserError)
    message = str(refused.value)
    assert "\n" not in message and message.split(": ")[0].endswith("params.yaml")
    return message


def test_a_section_of_no_method_is_refused(write_params):
    message = line_about(write_params({"methods.mart": {"weight": 1.0}}))
    assert "methods.mart:" in message and all(method in message for method in METHODS)


@pytest.mark.parametrize("method", ["um", "trades", "tla", "tla-sa"])
def test_a_listed_model_without_a_section_is_refused(method, write_params):
    assert f"methods.{method}:" in line_about(write_params({f"methods.{method}": ...}))


@pytest.mark.parametrize("name", ["mart", "at-b30", "um-b1", "tla-b0", "tla-b030", "mart-b30"])
def test_a_listed_model_that_is_no_method_is_refused(name, write_params, raw_params):
    """Also a pool for a method that takes no negatives from one."""
    message = line_about(write_params({"models": [*raw_params["models"], name]}))
    assert "models:" in message and repr(name) in message
    assert all(method in message for method in METHODS)


def test_a_method_that_is_not_listed_may_have_a_section_or_none(write_params, raw_params):
    models = [name for name in raw_params["models"] if name not in ("kurakin", "at-norm")]
    params = load_study(write_params({"models": models, "methods.kurakin": ...}))
    assert "at-norm" in params.methods and "kurakin" not in params.methods


@pytest.mark.parametrize(("key", "value"), [
    ("methods.um.weight", 0.5), ("methods.tla.lambda3", 0.1), ("methods.at.mining_batch", 30)],
    ids=str)
def test_an_unknown_key_of_a_method_is_refused(key, value, write_params):
    message = line_about(write_params({key: value}))
    assert f"{key}:" in message and repr(value) in message


@pytest.mark.parametrize("key", [
    "methods.tla.lambda1", "methods.tla-sa.mining_batch", "methods.alp.pair",
    "methods.trades.beta", "methods.um.lr", "methods.at.lr", "methods.tla-sa.lr"])
def test_a_missing_key_of_a_method_is_refused(key, write_params):
    message = line_about(write_params({key: ...}))
    assert f"{key}:" in message and "required" in message


@pytest.mark.parametrize(("key", "value"), [
    ("methods.um", None), ("methods.at", 3), ("methods.alp.weight", "0.1"),
    ("methods.tla.lambda1", True), ("methods.tla-sa.mining_batch", 30.0),
    ("methods.tla.lambda1", -0.5), ("methods.tla.lambda2", -0.5), ("methods.alp.weight", -1.0),
    ("methods.alp.pair", "pixels"), ("methods.tla.margin_twin", 0.0),
    ("methods.kurakin.adversarial_share", 1.0), ("methods.trades.beta", float("nan")),
    ("methods.at-norm.lambda2", float("inf")), ("methods.tla-sa.mining_batch", 0),
    ("methods.at.lr", 0.0), ("methods.vib.lr", float("nan")), ("methods.um.lr", "fast")], ids=str)
def test_a_bad_value_of_a_method_is_refused(key, value, write_params):
    message = line_about(write_params({key: value}))
    assert f"{key}:" in message and repr(value) in message


def test_a_study_without_any_triplet_is_refused(write_params):
    changes = {"methods.tla.margin_twin": None, "methods.tla.margin_class": None}
    assert "methods.tla:" in line_about(write_params(changes))


def test_a_missing_file_is_refused(tmp_path):
    line_about(tmp_path / "params.yaml")


def test_the_sections_of_the_methods_become_their_parameters(params):
    for name, section in params.methods.items():
        assert isinstance(section, METHODS[name].Parameters)
