"""Methods and training: hand-written losses, reductions to plain adversarial training, schedules, the checkpoint."""

import copy
import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from tla.core.attacks import pgd_linf, random_start
from tla.core.chance import STREAMS, stream, stream_seed
from tla.core.checkpoints import save_model, training_key
from tla.core.losses import cosine_distance
from tla.core.methods import LOSSES, Batch, adversarial_images
from tla.core.mining import Miner
from tla.core.resume import Resume
from tla.core.training import Trainer, lr_factor, make_optimizer, train_model
from tla.params import Mixed, Norm, NoWeights, Pairing, Trades, Triplet, parse_model

SMALL = {"model.widths": [16, 8], "train.batch": 32, "train.epochs": 3, "train.validate_every": 10,
         "attack.steps": 3, "attack.step_size": 0.06}
TLA_OFF = {"methods.tla.lambda1": 0.0, "methods.tla.lambda2": 0.0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def unchanged(x):
    """No augmentation."""
    return x


@pytest.fixture
def small(make_params):
    """Parameters of a training that takes a fraction of a second, with other values under dotted keys."""
    return lambda changes=None: make_params(SMALL | (changes or {}))


def trainer_of(name, params, data, seed=0):
    return Trainer(params, parse_model(name, params), seed, 0, data)


@pytest.fixture
def train(dataset, tmp_path, monkeypatch):
    """Trains one seed of a named model; unfinished work is kept after every epoch, in a folder of the test."""
    monkeypatch.chdir(tmp_path)

    def train_named(name, params, seed=0):
        model = parse_model(name, params)
        resume = Resume("work", training_key(params, model, seed), seconds=0)
        return train_model(params, model, seed, 0, dataset, resume)
    return train_named


def same_weights(a, b):
    return all(torch.equal(a[key], b[key]) for key in a.keys() | b.keys())


# Losses of the methods, by hand

@pytest.fixture
def model(network):
    """A copy of the trained perceptron: TLA leaves the model it mines with in training mode."""
    return copy.deepcopy(network)


@pytest.fixture
def batch(images):
    """Eight digits of different classes, their adversarial images, and a miner whose pool is all of them."""
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
    loss, _ = LOSSES[method](model, batch, NoWeights())
    expected = cross_entropy_by_hand(model(getattr(batch, which))[0], batch.y, smoothing).mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(("pair", "which"), [("logits", 0), ("embedding", 1)])
def test_pairing_adds_the_squared_distance(pair, which, batch, model):
    loss, logs = LOSSES["alp"](model, batch, Pairing(weight=0.7, pair=pair))
    difference = model(batch.x_adv)[which] - model(batch.x)[which]
    distance = sum(float(v) ** 2 for v in difference.flatten()) / 8
    at, _ = LOSSES["at"](model, batch, NoWeights())
    assert loss.item() == pytest.approx(at.item() + 0.7 * distance)
    assert logs["pair_distance"] == pytest.approx(distance)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_kurakin_weighs_adversarial_against_clean_images(smoothing, batch, model):
    """Two of eight are adversarial with weight 0.3: the weights are 0.3 / 6.6 and 1 / 6.6."""
    batch = dataclasses.replace(batch, smoothing=smoothing)
    loss, _ = LOSSES["kurakin"](model, batch, Mixed(adversarial_share=0.25, adversarial_weight=0.3))
    adversarial = cross_entropy_by_hand(model(batch.x_adv[:2])[0], batch.y[:2], smoothing)
    clean = cross_entropy_by_hand(model(batch.x[2:])[0], batch.y[2:], smoothing)
    torch.testing.assert_close(loss, (0.3 * adversarial.sum() + clean.sum()) / 6.6)


def test_trades_adds_the_divergence_of_adversarial_from_clean_predictions(batch, model):
    loss, logs = LOSSES["trades"](model, batch, Trades(beta=0.5))
    clean, adv = (model(x)[0].softmax(1) for x in (batch.x, batch.x_adv))
    divergence = sum((p * (p.log() - q.log())).sum() for p, q in zip(clean, adv, strict=True)) / 8
    torch.testing.assert_close(loss, F.cross_entropy(model(batch.x)[0], batch.y) + 0.5 * divergence)
    assert logs["divergence"] == pytest.approx(divergence.item())


def test_norm_control_adds_the_mean_squares_of_both_embeddings(batch, model):
    loss, _ = LOSSES["at-norm"](model, batch, Norm(lambda2=0.4))
    at, _ = LOSSES["at"](model, batch, NoWeights())
    norm = model(batch.x)[1].square().mean() + model(batch.x_adv)[1].square().mean()
    torch.testing.assert_close(loss, at + 0.4 * norm)


def triplets_by_hand(model, batch, margin, switched):
    """Triplet and norm term of the clean twin; with one image a class it is also the class's only positive."""
    anchor, positive = model(batch.x_adv)[1], model(batch.x)[1]
    losses, negatives = [], []
    for i in range(len(batch.y)):
        cosines = [-2.0 if j == i else F.cosine_similarity(anchor[i], positive[j], dim=0).item()
                   for j in range(len(batch.y))]
        negative = positive[cosines.index(max(cosines))]
        from_ = positive[i] if switched else anchor[i]
        losses.append(max(0.0, cosine_distance(anchor[i][None], positive[i][None]).item()
                          - cosine_distance(from_[None], negative[None]).item() + margin))
        negatives.append(negative)
    norm = sum(h.square().mean().item() for h in (anchor, positive, torch.stack(negatives)))
    return sum(losses) / len(losses), norm


@pytest.mark.parametrize("switched", [False, True], ids=["tla", "tla-sa"])
@pytest.mark.parametrize(("twin", "same_class"), [(0.4, None), (None, 0.4), (0.2, 0.5)])
def test_tla_adds_a_triplet_and_a_norm_term_for_each_margin(twin, same_class, switched, batch, model):
    weights = Triplet(lambda1=1.5, lambda2=0.2, margin_twin=twin, margin_class=same_class)
    loss, _ = LOSSES["tla-sa" if switched else "tla"](model, batch, weights)
    expected = LOSSES["at"](model, batch, NoWeights())[0].item()
    for margin in filter(None, (twin, same_class)):
        triplet, norm = triplets_by_hand(model, batch, margin, switched)
        assert triplet > 0
        expected += 1.5 * triplet + 0.2 * norm
    assert loss.item() == pytest.approx(expected)


def test_tla_without_any_triplet_is_refused():
    with pytest.raises(ValueError, match="cannot both be null"):
        Triplet(lambda1=1.5, lambda2=0.2, margin_twin=None, margin_class=None)


def test_tla_mines_in_evaluation_mode_and_trains_in_training_mode(batch, model):
    modes = []
    model.train().register_forward_pre_hook(lambda module, _: modes.append((torch.is_grad_enabled(), module.training)))
    weights = Triplet(lambda1=1.5, lambda2=0.2, margin_twin=0.1, margin_class=0.1)
    LOSSES["tla"](model, batch, weights)
    assert set(modes) == {(False, False), (True, True)}
    assert model.training


def test_anchors_without_a_negative_have_no_triplet_loss(batch, model):
    y = torch.zeros_like(batch.y)
    batch = dataclasses.replace(batch, y=y, miner=Miner(batch.x, y, len(y), unchanged, seeded()))
    weights = Triplet(lambda1=1.5, lambda2=0.0, margin_twin=0.4, margin_class=0.4)
    loss, logs = LOSSES["tla"](model, batch, weights)
    assert loss.item() == LOSSES["at"](model, batch, NoWeights())[0].item()
    assert logs["no_negative"] == 1 and logs["active_triplets"] == 0


def test_the_log_shows_a_collapsed_embedding(batch, model):
    """All embeddings equal: every triplet is active and its loss is the margin."""
    with torch.no_grad():
        for parameter in model.body.parameters():
            parameter.zero_()
        model.body[-2].bias.fill_(1.0)
    weights = Triplet(lambda1=1.0, lambda2=0.1, margin_twin=0.3, margin_class=0.1)
    logs = LOSSES["tla"](model, batch, weights)[1]
    assert logs["active_triplets"] == 1
    assert logs["loss_over_margin"] == pytest.approx(1)
    assert logs["positive_distance"] == pytest.approx(0, abs=1e-12)
    assert logs["negative_distance"] == pytest.approx(0, abs=1e-12)
    assert logs["norm_term"] == pytest.approx(3)


def test_tla_gives_gradient_through_anchor_positive_and_negative(batch, model):
    """The gradient of the whole differs from that through any two of the three embeddings."""
    model.requires_grad_(True)
    weights = Triplet(lambda1=1.0, lambda2=0.0, margin_twin=2.0, margin_class=None)
    loss = LOSSES["tla"](model, batch, weights)[0] - LOSSES["at"](model, batch, NoWeights())[0]
    kernel = model.body[1].weight
    (gradient,) = torch.autograd.grad(loss, kernel)
    model.eval()
    mined, _ = Miner(batch.x, batch.y, 8, unchanged, seeded(1)).negatives(model, model(batch.x_adv)[1], batch.y)
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


def test_undefended_training_images_are_the_clean_ones(logits_fn, images):
    x_adv = adversarial_images("um", logits_fn, *images, smoothing=0.0, generator=seeded(), **ATTACK)
    assert x_adv is images[0]


def test_kurakin_training_images_are_one_step_of_size_eps_from_the_image(logits_fn, images):
    x, y = images
    x_adv = adversarial_images("kurakin", logits_fn, x, y, smoothing=0.0, generator=seeded(), **ATTACK)
    point = x.clone().requires_grad_()
    F.cross_entropy(logits_fn(point), y, reduction="sum").backward()
    torch.testing.assert_close(x_adv, (x + 0.1 * point.grad.sign()).clamp(0, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.6])
@pytest.mark.parametrize("method", ["at", "alp", "at-norm", "tla", "tla-sa"])
def test_other_training_images_raise_the_smoothed_cross_entropy_from_a_random_start(
        method, smoothing, logits_fn, images):
    x_adv = adversarial_images(method, logits_fn, *images, smoothing=smoothing, generator=seeded(5), **ATTACK)
    expected = pgd_linf(logits_fn, *images, start=random_start(images[0], 0.1, seeded(5)),
                        loss=lambda logits, y: cross_entropy_by_hand(logits, y, smoothing), **ATTACK)
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-12)


def test_trades_training_images_raise_the_divergence_from_the_clean_prediction(logits_fn, images):
    clean = logits_fn(images[0]).softmax(1)
    x_adv = adversarial_images("trades", logits_fn, *images, smoothing=0.3, generator=seeded(5), **ATTACK)
    expected = pgd_linf(logits_fn, *images, start=random_start(images[0], 0.1, seeded(5)), **ATTACK,
                        loss=lambda logits, y: (clean * (clean.log() - logits.log_softmax(1))).sum(1))
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-12)


def test_trades_without_its_divergence_trains_exactly_like_um(small, dataset):
    params = small({"methods.trades.beta": 0.0})
    trades, um = trainer_of("trades", params, dataset), trainer_of("um", params, dataset)
    for _ in range(2):
        trades.epoch(), um.epoch()
    assert same_weights(trades.network.state_dict(), um.network.state_dict())


# Reductions: without batch norm, a method whose weights are zero is plain adversarial training

@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(("name", "off"), [
    ("tla-b20", TLA_OFF), ("tla-b1", TLA_OFF),
    ("tla-sa", {"methods.tla-sa.lambda1": 0.0, "methods.tla-sa.lambda2": 0.0, "methods.tla-sa.mining_batch": 20}),
    ("alp", {"methods.alp.weight": 0.0}),
    ("alp", {"methods.alp.weight": 0.0, "methods.alp.pair": "embedding"}),
    ("at-norm", {"methods.at-norm.lambda2": 0.0})])
def test_weight_zero_trains_exactly_like_at(name, off, optimizer, small, dataset):
    params = small(off | {"train.optimizer": optimizer})
    method, at = trainer_of(name, params, dataset), trainer_of("at", params, dataset)
    for _ in range(2):
        method.epoch(), at.epoch()
    assert same_weights(method.network.state_dict(), at.network.state_dict())


@pytest.mark.parametrize("name", ["um", "alp", "kurakin", "trades", "at-norm", "tla-b20", "tla-b1", "tla-sa"])
def test_every_method_trains_otherwise_than_at(name, small, dataset):
    params = small({"methods.tla-sa.mining_batch": 20})
    method, at = trainer_of(name, params, dataset), trainer_of("at", params, dataset)
    method.epoch(), at.epoch()
    assert not same_weights(method.network.state_dict(), at.network.state_dict())


# Schedules

def factors(params, steps, **changes):
    train = dataclasses.replace(params.train, **changes)
    return [lr_factor(train, step, steps) for step in range(steps)]


@pytest.mark.parametrize(("changes", "expected"), [
    ({"schedule": "constant"}, [1.0] * 10),
    ({"schedule": "triangular"}, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]),
    ({"schedule": "piecewise", "epochs": 5, "milestones": [2, 4]}, [1.0] * 4 + [0.1] * 4 + [0.01] * 2),
    ({"schedule": "cosine"}, [0.5 + 0.5 * math.cos(math.pi * step / 10) for step in range(10)]),
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
        seen.append(trainer.optimizer.param_groups[0]["lr"] / trainer.params.train.lr)
    assert seen == pytest.approx([2 * 4 / 12, 2 * 5 / 12, 2 * 1 / 12])


def test_eps_grows_linearly_during_the_ramp_and_then_stays(small, dataset):
    trainer = trainer_of("at", small({"train.eps_ramp_epochs": 2}), dataset)
    x, y = trainer.train.x, trainer.train.y
    for done, share in [(0, 1 / 8), (3, 4 / 8), (7, 1.0), (8, 1.0), (50, 1.0)]:
        change = (trainer._attack(x, y, done) - x).abs().max().item()
        assert change == pytest.approx(share * trainer.params.attack.eps, rel=1e-5)


def test_without_a_ramp_training_starts_at_full_eps(small, dataset):
    trainer = trainer_of("at", small(), dataset)
    change = trainer._attack(trainer.train.x, trainer.train.y, 0) - trainer.train.x
    assert change.abs().max().item() == pytest.approx(trainer.params.attack.eps, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_weight_decay_acts_on_kernels_only(optimizer, network, params):
    train = dataclasses.replace(params.train, optimizer=optimizer, weight_decay=0.01)
    for group in make_optimizer(network, train).param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0.0)


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
        network, log = train(name, params, seed=7)
        path = tmp_path / f"{i}.safetensors"
        save_model(path, network, params, parse_model(name, params), 7, dataset)
        files.append(path.read_bytes())
        logs.append(log)
    assert files[0] == files[1]
    assert logs[0] == logs[1]


def test_another_seed_trains_other_weights(small, train):
    a, b = (train("at", small(), seed)[0] for seed in (0, 1))
    assert not same_weights(a.state_dict(), b.state_dict())


@pytest.mark.parametrize("stopped_after", [1, 2, 3])
@pytest.mark.parametrize("name", ["at", "tla-b20"])
def test_a_stopped_training_continues_to_the_same_bits(name, stopped_after, small, dataset, train):
    params = small({"train.validate_every": 1, "train.crop_padding": 1, "train.flip": True})
    whole, log = train(name, params)
    model = parse_model(name, params)
    stopped = Trainer(params, model, 0, 0, dataset)
    for _ in range(stopped_after):
        stopped.epoch()
    Resume("work", training_key(params, model, 0), seconds=0).keep(stopped.state)
    continued, continued_log = train(name, params)
    assert same_weights(whole.state_dict(), continued.state_dict())
    assert log == continued_log


def test_a_stopped_training_of_other_parameters_is_not_continued(small, dataset, train):
    params, others = small(), small({"train.lr": 0.5})
    whole, _ = train("at", params)
    stopped = trainer_of("at", others, dataset)
    stopped.epoch()
    Resume("work", training_key(others, parse_model("at", others), 0), seconds=0).keep(stopped.state)
    assert same_weights(train("at", params)[0].state_dict(), whole.state_dict())


@pytest.mark.parametrize(("scores", "chosen"), [
    ([(16, 20), (24, 20), (20, 32)], 2),                # the highest robust accuracy, whatever the clean one
    ([(24, 20), (24, 30), (24, 25)], 2),                # ties go to clean accuracy
    ([(24, 30), (24, 30), (24, 29)], 2),                # and then to the later epoch
    ([(0, 0), (0, 0), (0, 0)], 3),
    ([(8, 9), (7, 32), (7, 32)], 1),
])
def test_checkpoint_has_the_best_validation_robust_accuracy(scores, chosen, small, dataset, monkeypatch):
    trainer = trainer_of("at", small({"train.validate_every": 1}), dataset)
    rows = torch.arange(len(trainer.held.y))
    outcomes = iter([(rows < clean, rows < robust) for robust, clean in scores])
    monkeypatch.setattr("tla.core.training.robust", lambda *_, **__: next(outcomes))
    weights = []
    for _ in scores:
        trainer.epoch()
        weights.append(copy.deepcopy(trainer.network.state_dict()))
    assert [same_weights(trainer.best, w) for w in weights] == [i + 1 == chosen for i in range(3)]


def test_training_returns_the_chosen_weights_in_evaluation_mode(small, dataset, train, monkeypatch):
    """The first epoch scores highest, so the weights are not those training ended with."""
    params = small({"train.validate_every": 1})
    first = trainer_of("at", params, dataset)
    first.epoch()
    rows, scores = torch.arange(len(first.held.y)), iter([20, 12, 5])
    monkeypatch.setattr("tla.core.training.robust", lambda *_, **__: (rows < 20, rows < next(scores)))
    network, _ = train("at", params)
    assert same_weights(network.state_dict(), first.network.state_dict())
    assert not any(module.training for module in network.modules())


def test_validation_comes_every_so_many_epochs_and_after_the_last(small, train):
    _, log = train("at", small({"train.epochs": 5, "train.validate_every": 2}))
    assert [row["epoch"] for row in log] == [1, 2, 3, 4, 5]
    assert [row["epoch"] for row in log if "validation_robust_accuracy" in row] == [2, 4, 5]


def test_training_survives_a_network_that_is_robust_nowhere(small, train):
    """At a large eps no image survives the first selection attack, and the second has nothing to do."""
    _, log = train("um", small({"train.validate_every": 1, "attack.eps": 1.0}))
    assert log[-1]["validation_robust_accuracy"] == 0
