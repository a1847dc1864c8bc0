"""Published architectures as bodies: normalised images [n, c, h, w] in, embedding [n, widths[-1]] out.

"authors" is the TensorFlow code of the paper, columbia/Metric_Learning_Adversarial_Robustness. Every layer used here
has a deterministic gradient on CUDA too; the global average is a plain mean because AdaptiveAvgPool2d has none.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from tla.params import UserError

LEAK = 0.1      # slope of every leaky ReLU in the authors' learning/model_vanilla.py
# All networks of the authors: decay 0.9, here momentum 0.1, and TensorFlow's default epsilon (PyTorch's is 1e-5).
BATCH_NORM = {"eps": 0.001, "momentum": 0.1}


class Standardize(nn.Module):
    """Each image [c, h, w] minus its mean, over its standard deviation, both over all its N = c * h * w values.

    It is tf.image.per_image_standardization, the first layer of the authors' CIFAR-10 and Tiny ImageNet networks.
    There pixels are in [0, 255] and the deviation is at least 1 / sqrt(N); for ours in [0, 1] that is 255 times less.
    """

    def forward(self, x: Tensor) -> Tensor:
        floor = 1 / (255 * math.sqrt(x[0].numel()))
        # Clamped before the root, whose slope at the zero variance of a constant image is infinite.
        std = x.var((1, 2, 3), correction=0, keepdim=True).clamp(min=floor**2).sqrt()
        return (x - x.mean((1, 2, 3), keepdim=True)) / std


class SameConv(nn.Conv2d):
    """Convolution without bias as the authors' `_conv`: odd kernel, SAME padding, He-normal weights by fan-out.

    The output side is ceil(side / stride). At stride 2 TensorFlow pads an even side after its last pixel, PyTorch's
    padding=1 before its first: the same network on images turned by 180 degrees, but not on these.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2 if stride == 1 else 0, bias=False)

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride > 1:
            right, down = (max(kernel - (side % stride or stride), 0) for side in (x.shape[3], x.shape[2]))
            x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return super().forward(x)


class PoolAndPad(nn.Module):
    """Average pool of side `stride`, then half the new, zero channels on each side (authors' model_vanilla.py)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride, self.new = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, self.stride, ceil_mode=True)       # ceil: as many pixels as SameConv leaves
        return F.pad(pooled, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))


class GlobalAverage(nn.Module):
    """Mean over the pixels, [n, c, h, w] -> [n, c]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Unit(nn.Module):
    """residual(a) + shortcut(x), a = activation(x) (He et al. 2016b); `shared` lets the shortcut read a, not x."""

    def __init__(self, activation: list[nn.Module], residual: list[nn.Module], shortcut: nn.Module, shared: bool):
        super().__init__()
        self.activation, self.residual = nn.Sequential(*activation), nn.Sequential(*residual)
        self.shortcut, self.shared = shortcut, shared

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activation(x)
        return self.residual(activated) + self.shortcut(activated if self.shared else x)


def paper_convnet(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """Four 3x3 convolutions with a pool after every second, then a linear layer; bias, BatchNorm and ReLU after each.

    authors' learning/model_mnist_large.py; the paper's widths for images (1, 28, 28) are [32, 64, 128, 256, 1024].
    """
    _expect(5, widths)
    layers = []
    for number, (inputs, outputs) in enumerate(pairwise([shape[0], *widths[:-1]])):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs, **BATCH_NORM), nn.ReLU()]
        layers += [nn.MaxPool2d(2, ceil_mode=True)] if number % 2 else []       # SAME: an odd side keeps its last pixel
    flat = widths[-2] * math.prod(math.ceil(side / 4) for side in shape[1:])
    body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, widths[-1]),
                         nn.BatchNorm1d(widths[-1], **BATCH_NORM), nn.ReLU())
    for layer in body:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)     # TensorFlow cuts at two deviations
            nn.init.constant_(layer.bias, 0.1)
    return body


def preact_resnet18(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """The usual ResNet-18 for CIFAR-10 in its pre-activation form, with PyTorch's default initialisation.

    He et al. 2016b, not the paper: it has a quarter of the weights of `wide_resnet`. Usual widths: [64, 128, 256, 512].
    """
    _expect(4, widths)
    units = [basic_unit(*unit[:3]) for unit in _plan(widths[0], widths, [2, 2, 2, 2])]
    return nn.Sequential(nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False), *units,
                         nn.BatchNorm2d(widths[-1]), nn.ReLU(), GlobalAverage())


def wide_resnet(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """Three stages of five wide units; leaky ReLU, so an embedding may be negative.

    authors' learning/model_vanilla.py, which is Madry's CIFAR-10 network; the paper's widths are [16, 160, 320, 640].
    """
    _expect(4, widths)
    units = [wide_unit(*unit[:3], shared=number == 0)       # only the very first activates before the split
             for number, unit in enumerate(_plan(widths[0], widths[1:], [5, 5, 5]))]
    return nn.Sequential(SameConv(shape[0], widths[0], 3), *units, *_activation(widths[-1], LEAK), GlobalAverage())


def resnet50_tiny(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """Twelve bottlenecks where a ResNet-50 has sixteen, and no downsampling before the second stage.

    authors' learning/model_imagenet_res50.py; the paper's widths are [64, 256, 512, 1024, 2048].
    """
    _expect(5, widths)
    units = [bottleneck(*unit[:3], project=unit[3] == 0) for unit in _plan(widths[0], widths[1:], [2, 3, 5, 2])]
    return nn.Sequential(SameConv(shape[0], widths[0], 7), *_activation(widths[0]), *units,
                         *_activation(widths[-1]), GlobalAverage())


def basic_unit(inputs: int, outputs: int, stride: int) -> Unit:
    """Two 3x3 convolutions; where the shape changes, the shortcut is a 1x1 convolution of the activated input."""
    residual = [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)]
    changes = stride > 1 or inputs != outputs
    shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else nn.Identity()
    return Unit([nn.BatchNorm2d(inputs), nn.ReLU()], residual, shortcut, shared=changes)


def wide_unit(inputs: int, outputs: int, stride: int, shared: bool) -> Unit:
    """Two 3x3 convolutions (authors' learning/model_vanilla.py, `_residual`)."""
    residual = [SameConv(inputs, outputs, 3, stride), *_activation(outputs, LEAK), SameConv(outputs, outputs, 3)]
    changes = stride > 1 or inputs != outputs
    shortcut = PoolAndPad(inputs, outputs, stride) if changes else nn.Identity()
    return Unit(_activation(inputs, LEAK), residual, shortcut, shared)


def bottleneck(inputs: int, outputs: int, stride: int, project: bool) -> Unit:
    """1x1, 3x3, 1x1 convolutions; `project`: the shortcut is a 1x1 convolution of the input before its activation."""
    width = outputs // 4
    # The first convolution has the stride, as in the authors' `conv_residual`; today's ResNet-50s give it to the 3x3.
    residual = [SameConv(inputs, width, 1, stride), *_activation(width), SameConv(width, width, 3),
                *_activation(width), SameConv(width, outputs, 1)]
    shortcut = SameConv(inputs, outputs, 1, stride) if project else nn.Identity()
    return Unit(_activation(inputs), residual, shortcut, shared=False)


def _activation(channels: int, slope: float = 0.0) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels, **BATCH_NORM), nn.LeakyReLU(slope) if slope else nn.ReLU()]


def _plan(inputs: int, widths: list[int], counts: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """(inputs, outputs, stride, index in its stage) of each unit; every stage but the first halves the image."""
    for stage, (outputs, count) in enumerate(zip(widths, counts, strict=True)):
        for index in range(count):
            yield inputs, outputs, 2 if stage and not index else 1, index
            inputs = outputs


def _expect(count: int, widths: list[int]) -> None:
    if len(widths) != count:
        raise UserError(f"model.widths: this architecture needs {count} values, not {len(widths)}")
