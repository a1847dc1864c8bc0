"""Published architectures: layers, numbers of weights, shortcuts, padding, how weights start."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tla.params import UserError
from tla.train import networks
from tla.train.models import Classifier
from tla.train.networks import (
    PoolAndPad,
    SameConv,
    Standardize,
    Unit,
    basic_unit,
    bottleneck,
    wide_unit,
)

# Architecture: image shape and widths as published, widths for tests (of odd differences, where
# that is allowed).
PUBLISHED = {
    "paper_convnet": ((1, 28, 28), [32, 64, 128, 256, 1024]),
    "preact_resnet18": ((3, 32, 32), [64, 128, 256, 512]),
    "wide_resnet": ((3, 32, 32), [16, 160, 320, 640]),
    "resnet50_tiny": ((3, 64, 64), [64, 256, 512, 1024, 2048]),
}
SMALL = {"paper_convnet": [3, 4, 5, 6, 10], "preact_resnet18": [4, 6, 7, 10],
         "wide_resnet": [3, 6, 10, 14], "resnet50_tiny": [4, 8, 12, 16, 20]}
AUTHORS = ["paper_convnet", "wide_resnet", "resnet50_tiny"]
RELU = ["paper_convnet", "preact_resnet18", "resnet50_tiny"]
every_network = pytest.mark.parametrize("name", PUBLISHED)


def published(name):
    """The network of full size, without memory for its weights: to count them, to follow shapes."""
    with torch.device("meta"):
        return getattr(networks, name)(*PUBLISHED[name]).eval()


def seeded(build, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def batch_norms(network):
    return [layer for layer in network.modules()
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]


def used(network):
    """In float64 and evaluation mode, with BatchNorms as after training: none left at 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    for layer in batch_norms(network):
        nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
        nn.init.uniform_(layer.bias, -0.3, 0.3, generator=generator)
        nn.init.uniform_(layer.running_mean, -0.3, 0.3, generator=generator)
        nn.init.uniform_(layer.running_var, 0.5, 1.5, generator=generator)
    return network.double().eval().requires_grad_(False)


def small(name, shape=None):
    return used(seeded(lambda: getattr(networks, name)(shape or PUBLISHED[name][0], SMALL[name])))


def random_images(n, shape, seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Layers in order: (kind, kernel, stride, inputs, outputs, side of the output), or fewer

def row(layer, x, y):
    """One executed layer as a row of the tables below."""
    if isinstance(layer, nn.Conv2d):
        assert layer.kernel_size[0] == layer.kernel_size[1] and y.shape[2] == y.shape[3]
        return ("conv", layer.kernel_size[0], layer.stride[0], x.shape[1], y.shape[1], y.shape[2])
    if isinstance(layer, nn.MaxPool2d):
        return ("maxpool", layer.kernel_size, y.shape[2])
    if isinstance(layer, PoolAndPad):
        return ("pool and pad", x.shape[2] // y.shape[2], x.shape[1], y.shape[1], y.shape[2])
    if isinstance(layer, nn.LeakyReLU):
        return ("leaky", layer.negative_slope)
    kind = {nn.BatchNorm1d: "bn", nn.BatchNorm2d: "bn", nn.ReLU: "relu", nn.Flatten: "flatten",
            nn.Linear: "linear", networks.GlobalAverage: "mean"}[type(layer)]
    if kind == "linear":
        return (kind, x.shape[1], y.shape[1])
    return (kind,) if kind == "relu" else (kind, y.shape[1])


def executed(name):
    network, rows = published(name), []
    for layer in network.modules():
        if not list(layer.children()) and not isinstance(layer, nn.Identity | nn.Sequential):
            layer.register_forward_hook(lambda layer, x, y: rows.append(row(layer, x[0], y)))
    network(torch.empty(2, *PUBLISHED[name][0], device="meta"))
    return rows


def test_layers_of_paper_convnet():
    assert executed("paper_convnet") == [
        ("conv", 3, 1, 1, 32, 28), ("bn", 32), ("relu",),
        ("conv", 3, 1, 32, 64, 28), ("bn", 64), ("relu",), ("maxpool", 2, 14),
        ("conv", 3, 1, 64, 128, 14), ("bn", 128), ("relu",),
        ("conv", 3, 1, 128, 256, 14), ("bn", 256), ("relu",), ("maxpool", 2, 7), ("flatten", 12544),
        ("linear", 12544, 1024), ("bn", 1024), ("relu",)]


# (inputs, outputs, stride, side) of every unit
PREACT_UNITS = [(64, 64, 1, 32), (64, 64, 1, 32), (64, 128, 2, 16), (128, 128, 1, 16),
                (128, 256, 2, 8), (256, 256, 1, 8), (256, 512, 2, 4), (512, 512, 1, 4)]
WIDE_UNITS = [(16, 160, 1, 32), *[(160, 160, 1, 32)] * 4,
              (160, 320, 2, 16), *[(320, 320, 1, 16)] * 4,
              (320, 640, 2, 8), *[(640, 640, 1, 8)] * 4]
# (inputs, bottleneck, outputs, stride, side)
TINY_UNITS = [(64, 64, 256, 1, 64), (256, 64, 256, 1, 64),
              (256, 128, 512, 2, 32), *[(512, 128, 512, 1, 32)] * 2,
              (512, 256, 1024, 2, 16), *[(1024, 256, 1024, 1, 16)] * 4,
              (1024, 512, 2048, 2, 8), (2048, 512, 2048, 1, 8)]


def test_layers_of_preact_resnet18():
    expected = [("conv", 3, 1, 3, 64, 32)]
    for a, b, stride, side in PREACT_UNITS:
        expected += [("bn", a), ("relu",), ("conv", 3, stride, a, b, side),
                     ("bn", b), ("relu",), ("conv", 3, 1, b, b, side)]
        expected += [("conv", 1, 2, a, b, side)] if a != b else []
    assert executed("preact_resnet18") == [*expected, ("bn", 512), ("relu",), ("mean", 512)]


def test_layers_of_wide_resnet():
    expected = [("conv", 3, 1, 3, 16, 32)]
    for a, b, stride, side in WIDE_UNITS:
        expected += [("bn", a), ("leaky", 0.1), ("conv", 3, stride, a, b, side),
                     ("bn", b), ("leaky", 0.1), ("conv", 3, 1, b, b, side)]
        expected += [("pool and pad", stride, a, b, side)] if a != b else []
    assert executed("wide_resnet") == [*expected, ("bn", 640), ("leaky", 0.1), ("mean", 640)]


def test_layers_of_resnet50_tiny():
    expected = [("conv", 7, 1, 3, 64, 64), ("bn", 64), ("relu",)]
    for a, w, b, stride, side in TINY_UNITS:
        expected += [("bn", a), ("relu",), ("conv", 1, stride, a, w, side), ("bn", w), ("relu",),
                     ("conv", 3, 1, w, w, side), ("bn", w), ("relu",), ("conv", 1, 1, w, b, side)]
        expected += [("conv", 1, stride, a, b, side)] if a != b else []
    assert executed("resnet50_tiny") == [*expected, ("bn", 2048), ("relu",), ("mean", 2048)]


def weighted(network, in_shortcuts):
    return sum(isinstance(layer, nn.Conv2d | nn.Linear) for name, layer in network.named_modules()
               if ("shortcut" in name) == in_shortcuts)


@pytest.mark.parametrize(("name", "layers", "projections"), [
    ("paper_convnet", 5, 0), ("preact_resnet18", 17, 3), ("wide_resnet", 31, 0),
    ("resnet50_tiny", 37, 4)])
def test_number_of_weighted_layers(name, layers, projections):
    """With the linear head: 6, 18, 31 convolutions + 1, and 38; names do not count projections."""
    network = published(name)
    assert (weighted(network, False), weighted(network, True)) == (layers, projections)


# Numbers of weights

def hand_sum(name):
    """Weights of the full network by hand: k * k * inputs * outputs, 2 per BatchNorm channel."""
    if name == "paper_convnet":
        convolutions = ((9 * 1 + 1) * 32 + (9 * 32 + 1) * 64
                        + (9 * 64 + 1) * 128 + (9 * 128 + 1) * 256)
        return convolutions + (7 * 7 * 256 + 1) * 1024 + 2 * (32 + 64 + 128 + 256 + 1024)
    if name == "preact_resnet18":
        units = sum(2 * a + 9 * a * b + 2 * b + 9 * b * b + (a != b) * a * b
                    for a, b, _, _ in PREACT_UNITS)
        return 9 * 3 * 64 + units + 2 * 512
    if name == "wide_resnet":
        units = sum(2 * a + 9 * a * b + 2 * b + 9 * b * b for a, b, _, _ in WIDE_UNITS)
        return 9 * 3 * 16 + units + 2 * 640
    units = sum(2 * a + a * w + 2 * w + 9 * w * w + 2 * w + w * b + (a != b) * a * b
                for a, w, b, _, _ in TINY_UNITS)
    return 49 * 3 * 64 + 2 * 64 + units + 2 * 2048


@pytest.mark.parametrize(("name", "count"), [
    ("paper_convnet", 13_236_928), ("preact_resnet18", 11_167_040), ("wide_resnet", 45_895_504),
    ("resnet50_tiny", 17_570_240)])
def test_number_of_weights(name, count):
    assert sum(p.numel() for p in published(name).parameters()) == hand_sum(name) == count


# Embedding

@every_network
def test_embedding_of_the_published_network(name):
    shape, widths = PUBLISHED[name]
    assert published(name)(torch.empty(2, *shape, device="meta")).shape == (2, widths[-1])


@pytest.mark.parametrize("shape", [None, (1, 8, 8), (2, 9, 14)], ids=str)
@every_network
def test_logits_and_embedding_shapes(name, shape):
    """At the published image size and at others, odd ones too, with a linear head on top."""
    shape = shape or PUBLISHED[name][0]
    network = Classifier(Standardize(), small(name, shape), SMALL[name][-1], 7).double().eval()
    logits, embedding = network(random_images(2, shape))
    assert logits.shape == (2, 7) and embedding.shape == (2, SMALL[name][-1])
    assert torch.isfinite(logits).all() and not torch.equal(embedding[0], embedding[1])


@pytest.mark.parametrize("name", RELU)
def test_embedding_after_relu_is_not_negative(name):
    embedding = small(name)(random_images(4, PUBLISHED[name][0]))
    assert embedding.min() >= 0 and embedding.max() > 0


@pytest.mark.parametrize(("name", "value"), [
    *[(name, 0.0) for name in RELU], ("wide_resnet", -0.1)])
def test_embedding_where_the_last_batch_norm_gives_minus_one(name, value):
    """A ReLU leaves nothing of it, the leaky ReLU a tenth."""
    network = small(name)
    batch_norms(network)[-1].weight.zero_()
    batch_norms(network)[-1].bias.fill_(-1)
    embedding = network(random_images(2, PUBLISHED[name][0]))
    torch.testing.assert_close(embedding, torch.full_like(embedding, value))


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "paper_convnet"])
def test_embedding_of_a_residual_network_is_a_mean_over_pixels(name):
    network, x = small(name), random_images(2, PUBLISHED[name][0])
    features = network[:-1](x)
    assert features.shape[2:] == ((4, 4) if name == "preact_resnet18" else (8, 8))
    torch.testing.assert_close(network(x), features.sum((2, 3)) / features[0, 0].numel())


@every_network
def test_evaluation_is_repeatable_and_leaves_the_network_as_it_was(name):
    network, x = small(name), random_images(2, PUBLISHED[name][0])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert torch.equal(network(x), network(x))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@every_network
def test_evaluation_of_an_image_does_not_depend_on_its_batch(name):
    network, x = small(name), random_images(3, PUBLISHED[name][0])
    alone = torch.cat([network(image[None]) for image in x])
    torch.testing.assert_close(network(x), alone)
    others = torch.cat([x[:1], 5 * random_images(2, PUBLISHED[name][0], seed=1)])
    torch.testing.assert_close(network(others)[:1], alone[:1])


@every_network
def test_input_gradient_agrees_with_finite_differences(name):
    shape = PUBLISHED[name][0]
    network, x = small(name), random_images(2, shape).requires_grad_()
    direction = random_images(2, shape, seed=1) - 0.5
    gradient = torch.autograd.grad(network(x).square().sum(), x)[0]
    with torch.no_grad():
        # Few kinks are that near.
        above, below = (network(x + h * direction).square().sum() for h in (1e-8, -1e-8))
    slope = ((above - below) / 2e-8).item()
    assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-3)
    assert (gradient.flatten(1).abs().sum(1) > 0).all()


# Convolutions and shortcuts

def test_a_strided_same_convolution_starts_at_the_first_pixel_of_an_even_image():
    """The kernel's first pixel samples 0, 2, 4, ...; its last one 2, 4, ... and a zero."""
    convolution = SameConv(1, 1, 3, 2).double().requires_grad_(False)
    x = random_images(1, (1, 6, 8))
    convolution.weight.zero_()[..., 0, 0] = 1
    assert torch.equal(convolution(x), x[..., ::2, ::2])
    convolution.weight.zero_()[..., 2, 2] = 1
    assert torch.equal(convolution(x)[..., :-1, :-1], x[..., 2::2, 2::2])
    assert not convolution(x)[..., -1, :].any() and not convolution(x)[..., -1].any()


def test_a_strided_same_convolution_is_centred_on_the_even_pixels_of_an_odd_image():
    convolution = SameConv(1, 1, 3, 2).double().requires_grad_(False)
    x = random_images(1, (1, 7, 5))
    convolution.weight.zero_()[..., 1, 1] = 1
    assert torch.equal(convolution(x), x[..., ::2, ::2])


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_a_same_convolution_of_stride_1_is_centred(kernel):
    convolution = SameConv(1, 1, kernel).double().requires_grad_(False)
    x = random_images(1, (1, 6, 9))
    convolution.weight.zero_()[..., kernel // 2, kernel // 2] = 1
    assert torch.equal(convolution(x), x)


def test_pool_and_pad_in_closed_form():
    """Means of 2x2 blocks, in the middle channels; an odd channel goes after."""
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    y = PoolAndPad(2, 5, 2)(x)
    assert y[0, 1].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert y[0, 2].tolist() == [[18.5, 20.5], [26.5, 28.5]]
    assert y.shape == (1, 5, 2, 2) and not y[:, [0, 3, 4]].any()


def silenced(unit):
    """The unit in evaluation mode with a residual branch that gives zero."""
    used(unit).residual[-1].weight.zero_()
    return unit


IMAGES = random_images(2, (4, 6, 6)) - 0.5


@pytest.mark.parametrize("unit", [basic_unit(4, 4, 1), wide_unit(4, 4, 1, shared=False),
                                  bottleneck(4, 4, 1, project=False)],
                         ids=["basic", "wide", "bottleneck"])
def test_a_unit_without_residual_passes_its_input_through(unit):
    assert torch.equal(silenced(unit)(IMAGES), IMAGES)


def test_a_widening_wide_unit_without_residual_pads_its_input():
    y = silenced(wide_unit(4, 10, 1, shared=False))(IMAGES)
    assert torch.equal(y[:, 3:7], IMAGES) and not y[:, [0, 1, 2, 7, 8, 9]].any()


def test_a_strided_wide_unit_without_residual_pools_its_input():
    y = silenced(wide_unit(4, 10, 2, shared=False))(IMAGES)
    blocks = [IMAGES[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    torch.testing.assert_close(y[:, 3:7], sum(blocks) / 4)


def test_a_shared_wide_unit_without_residual_pads_the_activated_input():
    unit = silenced(wide_unit(4, 10, 1, shared=True))
    norm = unit.activation[0]
    deviation = (norm.running_var + 0.001).sqrt()
    normed = (IMAGES.permute(0, 2, 3, 1) - norm.running_mean) / deviation * norm.weight + norm.bias
    normed = normed.permute(0, 3, 1, 2)
    expected = normed.clamp(min=0) + 0.1 * normed.clamp(max=0)
    torch.testing.assert_close(unit(IMAGES)[:, 3:7], expected)


def test_a_basic_unit_projects_the_activated_input_and_a_bottleneck_the_input_itself():
    basic, deep = silenced(basic_unit(4, 6, 2)), silenced(bottleneck(4, 8, 2, project=True))
    for unit, x in [(basic, basic.activation(IMAGES)), (deep, IMAGES)]:
        kernel = unit.shortcut.weight[:, :, 0, 0]
        projected = torch.einsum("oi,nihw->nohw", kernel, x[:, :, ::2, ::2])
        torch.testing.assert_close(unit(IMAGES), projected)


def test_which_units_share_their_activation_and_which_project():
    """model_vanilla.py: the first shares; model_imagenet_res50.py: a stage's first projects."""
    units = {name: [unit for unit in small(name) if isinstance(unit, Unit)] for name in SMALL}
    assert [unit.shared for unit in units["wide_resnet"]] == [True] + 14 * [False]
    assert not any(unit.shared for unit in units["resnet50_tiny"])
    projecting = [isinstance(unit.shortcut, SameConv) for unit in units["resnet50_tiny"]]
    assert [i for i, projects in enumerate(projecting) if projects] == [0, 2, 5, 10]
    assert [unit.shared for unit in units["preact_resnet18"]] == [i in (2, 4, 6) for i in range(8)]


def test_a_space_to_depth_stem_hands_2x2_blocks_to_the_same_network():
    """A quarter of the multiply-adds of units; a pixel's place in its block is a channel."""
    widths, x = SMALL["preact_resnet18"], random_images(2, (3, 16, 16)).float()
    network = seeded(lambda: networks.preact_resnet18_s2d((3, 16, 16), widths)).eval()
    inner = seeded(lambda: networks.preact_resnet18((12, 8, 8), widths)).eval()
    blocks = x.view(2, 3, 8, 2, 8, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 12, 8, 8)
    torch.testing.assert_close(network(x), inner(blocks))
    assert network(x).shape == (2, widths[-1])


def test_equal_widths_change_neither_the_strides_nor_what_is_shared():
    """[8, 8, 8, 8] still halves twice, shares first and, in resnet50_tiny, projects first."""
    wide = [unit for unit in networks.wide_resnet((3, 8, 8), [8] * 4) if isinstance(unit, Unit)]
    tiny = [unit for unit in networks.resnet50_tiny((3, 8, 8), [8] * 5) if isinstance(unit, Unit)]
    assert wide[0].shared and isinstance(wide[0].shortcut, nn.Identity)
    assert isinstance(wide[5].shortcut, PoolAndPad)
    assert isinstance(tiny[0].shortcut, SameConv) and isinstance(tiny[1].shortcut, nn.Identity)
    assert networks.wide_resnet((3, 8, 8), [8] * 4)(torch.rand(2, 3, 8, 8)).shape == (2, 8)


# Initialisation and BatchNorm

def test_paper_convnet_starts_from_truncated_normals_and_biases_of_a_tenth():
    body = seeded(lambda: networks.paper_convnet((1, 8, 8), [32, 64, 64, 64, 64]))
    layers = [layer for layer in body if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 5
    assert all(torch.equal(a.bias, torch.full_like(a.bias, 0.1)) for a in layers)
    weights = torch.cat([layer.weight.flatten() for layer in layers])
    # A normal variable cut at two deviations keeps 1 - 4 phi(2) / (1 - 2 Phi(-2)) of its variance.
    kept = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
    assert weights.abs().max() <= 0.2
    assert weights.std().item() == pytest.approx(0.1 * math.sqrt(kept), rel=0.02)
    assert abs(weights.mean().item()) < 1e-3


@pytest.mark.parametrize(("name", "widths"), [
    ("wide_resnet", [16, 64, 64, 64]), ("resnet50_tiny", [64, *[128] * 4])])
def test_convolutions_of_the_residual_networks_start_he_normal_by_fan_out(name, widths):
    body = seeded(lambda: getattr(networks, name)((3, 8, 8), widths))
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is None
            deviation = math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels))
            assert layer.weight.std().item() == pytest.approx(deviation, rel=0.15)
            assert layer.weight.abs().max() > 2.2 * deviation   # not truncated at 2, not uniform


@every_network
def test_weights_come_from_the_global_generator(name):
    """So that `build` decides them by its seed."""
    def build():
        return getattr(networks, name)((1, 8, 8), SMALL[name])
    def weights(seed):
        return torch.cat([p.detach().flatten() for p in seeded(build, seed).parameters()])
    first, again, other = (weights(seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@every_network
def test_batch_norm_constants(name):
    eps = 0.001 if name in AUTHORS else 1e-5
    for layer in batch_norms(small(name)):
        assert (layer.eps, layer.momentum, layer.affine) == (eps, 0.1, True)


def test_a_training_pass_moves_the_running_mean_by_a_tenth():
    body = networks.paper_convnet((1, 8, 8), SMALL["paper_convnet"]).double()
    x = random_images(5, (1, 8, 8))
    body.train()(x)
    torch.testing.assert_close(body[1].running_mean, 0.1 * body[0](x).mean((0, 2, 3)))


@pytest.mark.parametrize(("name", "count"), [
    ("paper_convnet", 5), ("preact_resnet18", 4), ("wide_resnet", 4), ("resnet50_tiny", 5)])
def test_another_number_of_widths_is_refused(name, count):
    for wrong in (count - 1, count + 1):
        with pytest.raises(UserError, match=f"model.widths.*{count} values, not {wrong}"):
            getattr(networks, name)((3, 8, 8), [8] * wrong)


# Standardisation

def standardized_bytes(image):
    """tf.image.per_image_standardization of an image [c, h, w], pixels in [0, 255], in numpy."""
    return (image - image.mean()) / max(image.std(), 1 / math.sqrt(image.size))


@pytest.mark.parametrize("contrast", [1.0, 1e-2, 2e-4, 5e-5, 1e-6, 0.0])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 5, 7)], ids=str)
def test_standardize_agrees_with_tensorflow_on_bytes(shape, contrast):
    """Also below the floor of the deviation: a contrast of 1 / (255 sqrt(N)), 7e-5 for CIFAR-10."""
    x = 0.4 + contrast * (random_images(3, shape) - 0.5)
    expected = np.stack([standardized_bytes(255 * image) for image in x.numpy()])
    np.testing.assert_allclose(Standardize()(x).numpy(), expected, rtol=1e-9, atol=1e-9)


def test_standardized_images_have_mean_0_and_deviation_1_whatever_their_scale():
    x = random_images(4, (3, 8, 8)) * torch.tensor([1.0, 0.1, 0.01, 0.5]).view(-1, 1, 1, 1).double()
    y = Standardize()(x)
    torch.testing.assert_close(y.mean((1, 2, 3)), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(y.square().mean((1, 2, 3)), torch.ones(4, dtype=torch.float64))


def test_standardize_at_a_constant_image_is_zero_with_the_slope_of_the_floor():
    """Value 0, derivative 255 sqrt(N) (identity - 1/N): finite, unlike that of the root of zero."""
    x = torch.full((1, 1, 2, 2), 0.7, dtype=torch.float64)
    assert not Standardize()(x).any()
    jacobian = torch.autograd.functional.jacobian(Standardize(), x).reshape(4, 4)
    torch.testing.assert_close(jacobian, 255 * 2 * (torch.eye(4, dtype=torch.float64) - 0.25))


def test_standardize_looks_at_each_image_alone():
    x = random_images(3, (3, 8, 8)) * torch.tensor([1.0, 0.2, 3.0]).view(-1, 1, 1, 1).double()
    alone = torch.cat([Standardize()(image[None]) for image in x])
    torch.testing.assert_close(Standardize()(x), alone)
