"""The variational information bottleneck: its distribution, its loss, its noise, its files."""

import pytest
import torch
from safetensors.torch import load_file
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from tla.params import UserError
from tla.train import ranks
from tla.train.bottleneck import Bottleneck
from tla.train.checkpoints import load_model, save_model
from tla.train.methods import METHODS
from tla.train.methods.vib import divergence
from tla.train.models import Classifier, build, network_of
from tla.train.training import Batch, Trainer

NAMES = ["um", "at", "alp", "tla"]
SMALL = {"models": [*NAMES, "vib"], "represent.models": NAMES,
         "model.widths": [16, 8], "train.batch": 32, "train.epochs": 3, "train.stored": "float32",
         "attack.steps": 3}


@pytest.fixture
def small(make_params):
    return make_params(SMALL)


@pytest.fixture
def vib(small):
    """A new one in float64, whose noise is not small."""
    network = network_of(small, "vib", (1, 8, 8), 10, seed=3).double().eval()
    network.scale.bias.data += 5
    return network


# Network

def test_its_answer_is_the_log_of_the_mean_probabilities_over_its_bank(vib, images):
    mean, scale = vib.encode(images[0])
    each = [vib.decode(mean, scale, noise.expand_as(mean)).softmax(1) for noise in vib.bank]
    found, embedding = vib(images[0])
    torch.testing.assert_close(found, torch.stack(each).mean(0).log())
    assert len(vib.bank) == 12 and torch.equal(embedding, mean)
    assert max((p - found.exp()).abs().max() for p in each) > 0.01


def test_a_draw_has_noise_of_its_own_for_each_image(vib, images):
    same = images[0][:1].expand(5, -1, -1, -1)
    found = vib.draw(same, torch.Generator().manual_seed(0))[0]
    assert all(not torch.equal(found[0], other) for other in found[1:])
    again = vib.draw(same, torch.Generator().manual_seed(0))[0]
    assert torch.equal(found, again)


def test_draws_have_the_mean_and_the_scale_that_the_image_is_given(vib, images):
    """A linear head has the logits' mean and variance in closed form."""
    one = images[0][:1]
    mean, scale = vib.encode(one)
    found = vib.draw(one.expand(20_000, -1, -1, -1), torch.Generator().manual_seed(0))[0]
    std = (scale.square() @ vib.head.weight.square().T).sqrt()[0]
    torch.testing.assert_close(found.mean(0), vib.head(mean)[0], rtol=0, atol=0.03)
    torch.testing.assert_close(found.std(0), std, rtol=0.03, atol=0)


def test_training_begins_with_little_noise(small, images):
    scale = network_of(small, "vib", (1, 8, 8), 10, seed=3).double().encode(images[0])[1]
    assert scale.min() > 0 and scale.max() < 0.02


def test_body_and_head_are_those_of_the_study_and_other_methods_have_no_other(small):
    plain = build(small.model, (1, 8, 8), 10, seed=3)
    for name, kind in (("vib", Bottleneck), ("at", Classifier), ("tla", Classifier)):
        network = network_of(small, name, (1, 8, 8), 10, seed=3)
        assert type(network) is kind
        state = network.state_dict()
        assert all(torch.equal(state[key], value) for key, value in plain.state_dict().items())
        assert kind is Bottleneck or state.keys() == plain.state_dict().keys()


def test_building_does_not_disturb_the_global_generator(small):
    before = torch.get_rng_state()
    network_of(small, "vib", (1, 8, 8), 10, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


# Loss

def test_the_regulariser_is_the_divergence_from_a_standard_normal_distribution(vib, images):
    mean, scale = vib.encode(images[0])
    expected = kl_divergence(Normal(mean, scale), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergence(mean, scale), expected)


def test_the_loss_is_that_of_one_draw_plus_the_weighted_divergence(vib, images):
    x, y = images
    values = METHODS["vib"].Parameters(lr=0.1, beta=0.3, draws=12)
    x_adv = (x + 0.2 * torch.rand_like(x)).clamp(0, 1)
    loss, logs = METHODS["vib"].loss(vib, Batch(x, x_adv, y, 0.1, None), values)
    vib.drawn -= 1
    mean, scale = vib.encode(x_adv)
    found = vib.head(mean + scale * vib.training_noise(mean))
    expected = F.cross_entropy(found, y, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected + 0.3 * divergence(mean, scale).mean())
    assert logs["cross_entropy"].item() == pytest.approx(expected.item())


def test_every_step_has_noise_of_its_own_and_every_seed(vib, small):
    mean = torch.zeros(3, 8).double()
    first, second = vib.training_noise(mean), vib.training_noise(mean)
    other = network_of(small, "vib", (1, 8, 8), 10, seed=4).training_noise(mean)
    assert not torch.equal(first, second) and not torch.equal(first, other)


def test_a_training_that_was_stopped_goes_on_with_the_same_noise(small, dataset):
    whole, stopped = (Trainer(small, "vib", 0, 0, dataset) for _ in range(2))
    whole.epoch()
    stopped.epoch()
    continued = Trainer(small, "vib", 0, 0, dataset)
    continued.load_state(stopped.state())
    for trainer in (whole, continued):
        trainer.epoch()
    a, b = whole.network.state_dict(), continued.network.state_dict()
    assert a["drawn"] == 8 and all(torch.equal(a[key], b[key]) for key in a)


def test_several_processes_are_refused(small, monkeypatch):
    monkeypatch.setattr(ranks, "size", lambda: 2)
    with pytest.raises(UserError, match="^vib: .*start one, without torchrun"):
        network_of(small, "vib", (1, 8, 8), 10, seed=3)


# Files

def test_a_bottleneck_survives_its_file_bit_for_bit(small, dataset, tmp_path, images):
    """Weights, the bank and how often it was drawn from: the same expected answer, and draws."""
    trainer = Trainer(small, "vib", 0, 0, dataset)
    trainer.epoch()
    network, path = trainer.network.eval(), tmp_path / "models" / "seed-0.safetensors"
    save_model(path, network, small, "vib", 0, dataset)
    loaded, state = load_model(path, small, "vib", 0), network.state_dict()
    stored = load_file(path)
    assert stored.keys() == state.keys() == loaded.state_dict().keys()
    assert all(torch.equal(stored[key], state[key]) for key in state)
    x = images[0].float()
    assert torch.equal(loaded(x)[0], network(x)[0]) and loaded.stochastic
    draws = [net.draw(x, torch.Generator().manual_seed(1))[0] for net in (loaded, network)]
    assert torch.equal(*draws) and not loaded.training
