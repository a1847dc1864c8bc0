"""What a network answers: fitness to be asked, classes, and classes of what an attack returned."""

import torch
from torch import Tensor, nn

from tla.measure.referee import check

Columns = dict[str, Tensor]     # by name, one entry per image: [n]


def check_model(model: nn.Module, x: Tensor, classes: int) -> None:
    """Raise ValueError where a model is unfit for gradient attacks.

    It must answer with finite logits [n, classes], no probabilities, and the same if asked again.
    """
    with torch.no_grad():
        logits, again = model(x)[0], model(x)[0]
    if logits.shape != (len(x), classes):
        raise ValueError(f"returned logits of shape {tuple(logits.shape)}, not {(len(x), classes)}")
    if not logits.isfinite().all():
        raise ValueError("returned logits that are not finite")
    if not logits.equal(again):
        raise ValueError("answered differently when asked again; attacks need a fixed model")
    if (logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-4).all():
        raise ValueError("returned probabilities; attacks need logits, or the gradient vanishes")


def predict(model: nn.Module, x: Tensor, batch: int) -> Tensor:
    """Class of each image, [n]. Raises ValueError for logits that are not finite."""
    with torch.no_grad():
        logits = torch.cat([model(part)[0] for part in x.split(batch)])
    if not logits.isfinite().all():
        raise ValueError("the model returned logits that are not finite")
    return logits.argmax(1)


def returned(model: nn.Module, x: Tensor, x_adv: Tensor, name: str, eps: float,
             batch: int) -> Columns:
    """<name>_linf and <name>_pred of the images that an attack returned for x, checked."""
    change = torch.from_numpy(check(x, x_adv, eps)).float()
    return {f"{name}_linf": change, f"{name}_pred": predict(model, x_adv, batch)}
