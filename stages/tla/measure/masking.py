"""Signs of gradient masking: accuracy over eps, vanishing gradients, the loss around images."""

import pandas as pd
import torch
from torch import Tensor, nn

from tla.measure.answers import Columns, predict
from tla.measure.referee import check
from tla.params import Masking
from tla.train.chance import stream
from tla.train.data import Split
from tla.train.pgd import cross_entropy, input_gradient, margin, pgd_linf


def masking_columns(model: nn.Module, split: Split, settings: Masking, *, eps: float,
                    batch: int) -> Columns:
    """eps_<size>, 1 where correct under PGD at this eps, and zero_gradient; each [n].

    The sizes are the factors times eps, and 1, where every image can become any other.
    """
    sizes = sorted({*(factor * eps for factor in settings.eps_factors), 1.0})
    columns = {}
    for size in sizes:
        columns[f"eps_{size:g}"] = _correct(model, split, settings, size, batch).byte()
    return columns | {"zero_gradient": zero_gradient(model, split)}


def _correct(model: nn.Module, split: Split, settings: Masking, eps: float, batch: int) -> Tensor:
    """It starts at the image: at eps = 1 a random start is noise, misclassified by itself."""
    x_adv = pgd_linf(lambda x: model(x)[0], split.x, split.y, eps=eps, steps=settings.steps,
                     step_size=settings.rel_step_size * eps, loss=cross_entropy, start=split.x)
    check(split.x, x_adv, eps)
    return predict(model, x_adv, batch) == split.y


def zero_gradient(model: nn.Module, split: Split) -> Tensor:
    """Share of pixels whose cross-entropy gradient is exactly zero, per image, [n] in float64."""
    _, gradient = input_gradient(lambda x: model(x)[0], split.x, split.y, cross_entropy)
    return (gradient == 0).flatten(1).double().mean(1)


def surfaces(model: nn.Module, split: Split, eps: float, points: int, seed: int) -> pd.DataFrame:
    """Margin of each image of a few on a square grid from -eps to eps.

    Columns idx, gradient, random (where on the grid) and margin: the largest wrong logit minus the
    true one, which no softmax flattens; positive where misclassified. The axes are the sign of the
    margin's gradient and random signs; pixels stay in [0, 1].
    """
    steps = torch.linspace(-eps, eps, points, device=split.x.device)
    along, across = torch.meshgrid(steps, steps, indexing="ij")
    a, b = along.reshape(-1, 1, 1, 1), across.reshape(-1, 1, 1, 1)
    found = []
    for x, y, idx in zip(split.x.split(1), split.y.split(1), split.idx, strict=True):
        _, gradient = input_gradient(lambda images: model(images)[0], x, y, margin)
        generator = stream(seed, "queries", x.device)
        other = torch.rand(x.shape, generator=generator, device=x.device).sub(0.5).sign()
        with torch.no_grad():
            logits, _ = model((x + a * gradient.sign() + b * other).clamp(0, 1))
        found.append(pd.DataFrame({
            "idx": int(idx), "gradient": a.flatten().cpu(), "random": b.flatten().cpu(),
            "margin": margin(logits, y.expand(points**2)).cpu()}))
    return pd.concat(found)
