"""Published architectures as bodies: normalised images [n, c, h, w] to embeddings [n, widths[-1]].

"authors" is the TensorFlow code of the paper, columbia/Metric_Learning_Adversarial_Robustness.
Every layer used here has a deterministic gradient on CUDA too; the global average is a plain mean
because AdaptiveAvgPool2d has none.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from tla.params import UserError

LEAK = 0.1      # slope of every leaky ReLU in the authors' learning/model_vanilla.py
# All networks of the authors: decay 0.9, here momentum 0.1; TensorFlow's epsilon (PyTorch's: 1e-5).
BATCH_NORM = {"eps": 0.001, "momentum": 0.1}


class Standardize(nn.Module):
    """Each image minus its mean, over its standard deviation, both of all its N = c * h * w values.

    It is tf.image.per_image_standardization, the first layer of the authors' CIFAR-10 and Tiny
    ImageNet networks. There pixels are in [0, 255] and the deviation is at least 1 / sqrt(N); for
    ours in [0, 1] that is 255 times less.
    """

    def forward(self, x: Tensor) -> Tensor:
        floor = 1 / (255 * math.sqrt(x[0].numel()))
        # Clamped before the root, whose slope at the zero variance of a constant image is infinite.
        variance = x.var((1, 2, 3), correction=0, keepdim=True)
        std = variance.clamp(min=floor**2).sqrt()
        return (x - x.mean((1, 2, 3), keepdim=True)) / std


class SameConv(nn.Conv2d):
    """Convolution as the authors' `_conv`: no bias, SAME padding, He-normal weights by fan-out.

    The kernel is odd, the output side ceil(side / stride). At stride 2 TensorFlow pads an even side
    after its last pixel, PyTorch's padding=1 before its first: the same network on images turned by
    180 degrees, but not on these.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, bias=False)

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] > 1:
            x = F.pad(x, (*self._zeros(x.shape[3]), *self._zeros(x.shape[2])))
        return super().forward(x)

    def _zeros(self, side: int) -> tuple[int, int]:
        """How many zeros SAME padding at a stride puts before and after a side."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        zeros = max(kernel - (side % stride or stride), 0)
        return zeros // 2, zeros - zeros // 2


class PoolAndPad(nn.Module):
    """Average pool of side `stride`, then half the new, zero channels on each side.

    authors' learning/model_vanilla.py
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride, self.new = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, self.stride, ceil_mode=True)   # ceil: as many as SameConv leaves
        return F.pad(pooled, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))


class GlobalAverage(nn.Module):
    """Mean over the pixels, [n, c, h, w] -> [n, c]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Unit(nn.Module):
    """residual(a) + shortcut(x) with a = activation(x) (He et al. 2016b).

    `shared` lets the shortcut read a, not x.
    """

    def __init__(self, activation: list[nn.Module], residual: list[nn.Module],
                 shortcut: nn.Module, shared: bool):
        super().__init__()
        self.activation, self.residual = nn.Sequential(*activation), nn.Sequential(*residual)
        self.shortcut, self.shared = shortcut, shared

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activation(x)
        return self.residual(activated) + self.shortcut(activated if self.shared else x)


def paper_convnet(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """Four 3x3 convolutions with a pool after every second, then a linear layer.

    After each: bias, BatchNorm, ReLU. authors' learning/model_mnist_large.py; the paper's widths
    for images (1, 28, 28) are [32, 64, 128, 256, 1024].
    """
    _expect(5, widths)
    layers = []
    for number, (inputs, outputs) in enumerate(pairwise([shape[0], *widths[:-1]])):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), *_activation(outputs)]
        if number % 2 == 1:
            # SAME padding: an odd side keeps its last pixel.
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
    pixels = math.ceil(shape[1] / 4) * math.ceil(shape[2] / 4)
    layers += [nn.Flatten(), nn.Linear(widths[-2] * pixels, widths[-1]),
               nn.BatchNorm1d(widths[-1], **BATCH_NORM), nn.ReLU()]
    _truncated_normal(layers)
    return nn.Sequential(*layers)


def _truncated_normal(layers: list[nn.Module]) -> None:
    """Initialise as the authors do on MNIST; TensorFlow cuts at two deviations."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
            nn.init.constant_(layer.bias, 0.1)


def preact_resnet18(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """The usual ResNet-18 for CIFAR-10 in its pre-activation form, initialised as PyTorch does.

    He et al. 2016b, not the paper: it has a quarter of the weights of `wide_resnet`. Usual widths:
    [64, 128, 256, 512].
    """
    _expect(4, widths)
    units = []
    for inputs, outputs, stride, _ in _plan(widths[0], widths, [2, 2, 2, 2]):
        units.append(basic_unit(inputs, outputs, stride))
    stem = nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False)
    return nn.Sequential(stem, *units, nn.BatchNorm2d(widths[-1]), nn.ReLU(), GlobalAverage())


def preact_resnet18_s2d(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """`preact_resnet18` of an image's 2x2 blocks: a quarter of the pixels, four times the channels.

    The space-to-depth stem of Ridnik et al. 2021 (there 4x4 blocks); for images of even sides. With
    equal widths it has nearly the same weights and takes about a quarter of the multiply-adds.
    """
    channels, height, width = shape
    return nn.Sequential(nn.PixelUnshuffle(2),
                         *preact_resnet18((4 * channels, height // 2, width // 2), widths))


def wide_resnet(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """Three stages of five wide units; leaky ReLU, so an embedding may be negative.

    authors' learning/model_vanilla.py, which is Madry's CIFAR-10 network; the paper's widths are
    [16, 160, 320, 640].
    """
    _expect(4, widths)
    units = []
    for inputs, outputs, stride, _ in _plan(widths[0], widths[1:], [5, 5, 5]):
        first = not units       # only the very first unit activates before the split
        units.append(wide_unit(inputs, outputs, stride, shared=first))
    stem = SameConv(shape[0], widths[0], 3)
    return nn.Sequential(stem, *units, *_activation(widths[-1], LEAK), GlobalAverage())


def resnet50_tiny(shape: tuple[int, int, int], widths: list[int]) -> nn.Module:
    """Twelve bottlenecks where a ResNet-50 has sixteen; no downsampling before the second stage.

    authors' learning/model_imagenet_res50.py; the paper's widths are [64, 256, 512, 1024, 2048].
    """
    _expect(5, widths)
    if min(widths[1:]) < 4:
        raise UserError("model.widths: the inner convolutions have a quarter of the channels; "
                        f"{min(widths[1:])} are too few")
    units = []
    for inputs, outputs, stride, index in _plan(widths[0], widths[1:], [2, 3, 5, 2]):
        units.append(bottleneck(inputs, outputs, stride, project=index == 0))
    stem = SameConv(shape[0], widths[0], 7)
    return nn.Sequential(stem, *_activation(widths[0]), *units, *_activation(widths[-1]),
                         GlobalAverage())


def basic_unit(inputs: int, outputs: int, stride: int) -> Unit:
    """Two 3x3 convolutions.

    Where the shape changes, the shortcut is a 1x1 convolution of the activated input.
    """
    residual = [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(outputs), nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)]
    changes = stride > 1 or inputs != outputs
    shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else nn.Identity()
    return Unit([nn.BatchNorm2d(inputs), nn.ReLU()], residual, shortcut, shared=changes)


def wide_unit(inputs: int, outputs: int, stride: int, shared: bool) -> Unit:
    """Two 3x3 convolutions (authors' learning/model_vanilla.py, `_residual`)."""
    residual = [SameConv(inputs, outputs, 3, stride), *_activation(outputs, LEAK),
                SameConv(outputs, outputs, 3)]
    changes = stride > 1 or inputs != outputs
    shortcut = PoolAndPad(inputs, outputs, stride) if changes else nn.Identity()
    return Unit(_activation(inputs, LEAK), residual, shortcut, shared)


def bottleneck(inputs: int, outputs: int, stride: int, project: bool) -> Unit:
    """1x1, 3x3, 1x1 convolutions.

    `project`: the shortcut is a 1x1 convolution of the input before its activation.
    """
    width = outputs // 4
    # The first convolution has the stride, as in the authors' `conv_residual`; today's ResNet-50s
    # give it to the 3x3.
    residual = [SameConv(inputs, width, 1, stride), *_activation(width),
                SameConv(width, width, 3), *_activation(width),
                SameConv(width, outputs, 1)]
    shortcut = SameConv(inputs, outputs, 1, stride) if project else nn.Identity()
    return Unit(_activation(inputs), residual, shortcut, shared=False)


def _activation(channels: int, slope: float = 0.0) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels, **BATCH_NORM), nn.LeakyReLU(slope) if slope else nn.ReLU()]


def _plan(inputs: int, widths: list[int],
          counts: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """(inputs, outputs, stride, index in its stage) of each unit.

    Every stage but the first halves the image.
    """
    for stage, (outputs, count) in enumerate(zip(widths, counts, strict=True)):
        for index in range(count):
            halves = stage > 0 and index == 0
            yield inputs, outputs, 2 if halves else 1, index
            inputs = outputs


def _expect(count: int, widths: list[int]) -> None:
    if len(widths) != count:
        raise UserError(f"model.widths: this architecture needs {count} values, "
                        f"not {len(widths)}")
