"""What gradient masking is diagnosed from: accuracy over eps, vanishing gradients, the loss around an image."""

import pandas as pd
import torch
from torch import Tensor, nn

from tla.core.attacks import cross_entropy, input_gradient, margin, pgd_linf
from tla.core.data import Split
from tla.params import Masking


def curve(model: nn.Module, split: Split, settings: Masking, eps: list[float]) -> Tensor:
    """Correct under PGD at each eps, [len(eps), n].

    It starts at the image: at eps = 1 a random start is noise, which is misclassified without any attack.
    """
    def logits(x):
        return model(x)[0]

    lines = []
    for size in eps:
        x_adv = pgd_linf(logits, split.x, split.y, eps=size, step_size=settings.step_fraction * size,
                         steps=settings.steps, loss=cross_entropy, start=split.x)
        with torch.no_grad():
            lines.append(logits(x_adv).argmax(1) == split.y)
    return torch.stack(lines)


def zero_gradient(model: nn.Module, split: Split) -> Tensor:
    """Share of pixels whose cross-entropy gradient is exactly zero, per image, [n]."""
    _, gradient = input_gradient(lambda x: model(x)[0], split.x, split.y, cross_entropy)
    return (gradient == 0).flatten(1).double().mean(1)


def surface(model: nn.Module, x: Tensor, y: Tensor, eps: float, points: int,
            generator: torch.Generator) -> pd.DataFrame:
    """Margin of one image x [1, c, h, w] on a square grid from -eps to eps, columns gradient, random, margin.

    The largest wrong logit minus the true one, which no softmax flattens; positive where misclassified. The
    axes are the sign of its gradient and random signs; pixels stay in [0, 1].
    """
    _, gradient = input_gradient(lambda images: model(images)[0], x, y, margin)
    other = torch.rand(x.shape, generator=generator, device=x.device).sub(0.5).sign()
    steps = torch.linspace(-eps, eps, points, device=x.device)
    a, b = (grid.reshape(-1, 1, 1, 1) for grid in torch.meshgrid(steps, steps, indexing="ij"))
    with torch.no_grad():
        found = margin(model((x + a * gradient.sign() + b * other).clamp(0, 1))[0], y.expand(points**2))
    return pd.DataFrame({"gradient": a.flatten().cpu(), "random": b.flatten().cpu(), "margin": found.cpu()})
