"""Networks. Each maps images [n, c, h, w] in [0, 1] to (logits [n, classes], embedding [n, d]).

Normalisation is the first layer, so every attack and every test works on pixels. The embedding h is
the last hidden layer after its ReLU, the layer the triplet loss acts on.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from tla.params import Model, Params, UserError, blamed
from tla.train import networks
from tla.train.methods import METHODS, parse_model


class Normalize(nn.Module):
    """(x - mean) / std per channel."""

    def __init__(self, mean: list[float], std: list[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Classifier(nn.Module):
    """A body that ends in the embedding, and a linear layer on top."""

    def __init__(self, normalize: nn.Module, body: nn.Module, embedding: int, classes: int):
        super().__init__()
        self.normalize, self.body = normalize, body
        self.head = nn.Linear(embedding, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.body(self.normalize(x))
        exact = self.head.weight.dtype      # under autocast the layers return bfloat16
        return self.head(embedding).to(exact), embedding.to(exact)


def has_batch_norm(network: nn.Module) -> bool:
    """Whether what a network says of an image depends on its mode and on the images beside it."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules())


def embed(network: nn.Module, *images: Tensor) -> list[Tensor]:
    """The embeddings [n_i, d] of several batches [n_i, c, h, w], all in one pass where it is free.

    With batch norm each batch has a pass of its own, as in the authors' code: its statistics are
    those of the batch.
    """
    if has_batch_norm(network):
        return [network(part)[1] for part in images]
    sizes = [len(part) for part in images]
    return list(network(torch.cat(images))[1].split(sizes))


def mlp(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """Fully connected layers of the given widths, ReLU after each."""
    layers = [nn.Flatten()]
    for inputs, outputs in pairwise([math.prod(shape), *widths]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def convnet(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """4x4 convolutions of stride 2 and padding 1 of all widths but the last, a linear layer's.

    The first is computed as a 2x2 convolution of the image's 2x2 blocks: the same sums, and the
    gradient with respect to pixels, where attacks spend their time, takes a sixth of it.
    """
    channels = widths[:-1]
    inputs, height, width = shape
    if not channels or not min(height, width) >> len(channels):
        raise UserError(f"model.widths: {len(widths)} values do not fit images of {height} x "
                        f"{width} pixels; every convolution halves them, a linear layer follows")
    padding = nn.ZeroPad2d((1, 1 - width % 2, 1, 1 - height % 2))   # an odd side needs one end only
    layers = [padding, nn.PixelUnshuffle(2), nn.Conv2d(4 * inputs, channels[0], 2), nn.ReLU()]
    for a, b in pairwise(channels):
        layers += [nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()]
    pixels = (height >> len(channels)) * (width >> len(channels))    # every convolution halves both
    layers += [nn.Flatten(), nn.Linear(channels[-1] * pixels, widths[-1]), nn.ReLU()]
    return nn.Sequential(*layers)


def convnet_bn(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """`convnet` with batch norm before every ReLU, as in the authors' networks."""
    norms = [nn.BatchNorm2d(width, **networks.BATCH_NORM) for width in widths[:-1]]
    norms.append(nn.BatchNorm1d(widths[-1], **networks.BATCH_NORM))
    layers = []
    for layer in convnet(shape, widths):
        layers += [norms.pop(0), layer] if isinstance(layer, nn.ReLU) else [layer]
    return nn.Sequential(*layers)


BODIES = {
    "mlp": mlp,
    "convnet": convnet,
    "convnet-bn": convnet_bn,
    "paper-convnet": networks.paper_convnet,
    "preact-resnet18": networks.preact_resnet18,
    "preact-resnet18-s2d": networks.preact_resnet18_s2d,
    "wide-resnet": networks.wide_resnet,
    "resnet50-tiny": networks.resnet50_tiny,
}


def build(model: Model, shape: tuple[int, int, int], classes: int, seed: int) -> Classifier:
    """A new network for images of `shape` (channels, height, width), initialised from `seed`.

    The head keeps PyTorch's initialisation for every architecture. Raises UserError where mean and
    std do not have a value per channel.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = BODIES[model.architecture](shape, model.widths)
        network = Classifier(_normalize(model, shape[0]), body, model.widths[-1], classes)
    # What a convolution gets in one layout it hands on in the same.
    return network.to(memory_format=torch.channels_last) if model.channels_last else network


def network_of(params: Params, name: str, shape: tuple[int, int, int], classes: int,
               seed: int) -> nn.Module:
    """The untrained network of a model: the study's, or what the model's method makes of it."""
    method = parse_model(name, params).method
    with blamed(params.config):
        network = build(params.model, shape, classes, seed)
    if not hasattr(METHODS[method], "network"):
        return network
    return METHODS[method].network(network, params.methods[method], seed)


def _normalize(model: Model, channels: int) -> nn.Module:
    if model.mean is None and model.std is None:
        return networks.Standardize()
    if len(model.mean or []) != channels or len(model.std or []) != channels:
        raise UserError(f"model.mean, model.std: need {channels} values each, one per channel, or "
                        "null for both")
    return Normalize(model.mean, model.std)
