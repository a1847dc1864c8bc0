"""Attacks that see no gradient of the model: Square its scores, HopSkipJump its decisions."""

import numpy as np
import torch
from torch import Tensor, nn

from tla.measure.answers import Columns, predict, returned
from tla.measure.draws import right
from tla.outcomes import Outcome
from tla.params import HopSkip, Square
from tla.train.data import Split


class Counted(nn.Module):
    """The logits of a model, and how many images it was asked about."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.asked = model, 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        return self.model(x.float())[0]     # HopSkipJump computes in double precision


def square(model: nn.Module, split: Split, *, eps: float, queries: int, batch: int,
           seed: int) -> Tensor:
    """Images [n, c, h, w] after the score-based Square attack (Andriushchenko et al. 2020)."""
    from pyautoattack.square import SquareAttack
    attack = SquareAttack(Counted(model), norm="Linf", eps=eps, n_queries=queries, seed=seed,
                          device=split.x.device)
    batches = zip(split.x.split(batch), split.y.split(batch), strict=True)
    return torch.cat([attack.perturb(x, y) for x, y in batches])


def square_columns(model: nn.Module, split: Split, name: str, attack: Square, *, eps: float,
                   batch: int, seed: int) -> Columns:
    """<name>_linf, <name>_pred and <name>_worst, 1 where still correct; each [n].

    A stochastic network shows its expected scores and is judged by draws.
    """
    x_adv = square(model, split, eps=eps, queries=attack.queries, batch=batch, seed=seed)
    columns = returned(model, split.x, x_adv, name, eps, batch)
    correct = right(model, x_adv, split.y, columns[f"{name}_pred"])
    return columns | {str(Outcome(name, None, "worst")): correct}


def hop_skip_jump(model: nn.Module, split: Split, settings: HopSkip,
                  seed: int) -> tuple[Tensor, float]:
    """Nearest misclassified images that HopSkipJump (Chen et al. 2020) finds; queries an image.

    It sees decisions alone, starts from the first image that the model puts into another class, and
    minimises the L-infinity distance without a bound; the caller compares with eps.
    """
    from art.attacks.evasion import HopSkipJump
    from art.estimators.classification import PyTorchClassifier
    counted = Counted(model)
    classifier = PyTorchClassifier(
        counted, nn.CrossEntropyLoss(), tuple(split.x.shape[1:]), model.head.out_features,
        clip_values=(0.0, 1.0), device_type="gpu" if split.x.is_cuda else "cpu")
    np.random.seed(seed)    # the library draws from numpy's global generator, and does not seed it
    with torch.no_grad():
        prediction = counted(split.x).argmax(1)
    other = (prediction[:, None] != prediction[None, :]).float()
    if not other.any():     # all are given one class: nothing to start from, nothing is found
        return split.x, counted.asked / len(split.x)
    start = split.x[other.argmax(1)].cpu().numpy()
    attack = HopSkipJump(
        classifier, norm=np.inf, max_iter=settings.iterations, max_eval=settings.evaluations,
        init_eval=settings.initial_evaluations, verbose=False)
    found = attack.generate(split.x.cpu().numpy(), x_adv_init=start)
    return torch.from_numpy(found).to(split.x.device), counted.asked / len(split.x)


def hop_skip_columns(model: nn.Module, split: Split, settings: HopSkip, *, seed: int) -> Columns:
    """hop_skip_distance, L-infinity, and hop_skip_queries of each image, [n].

    The distance is 0 where the image itself is misclassified, inf where nothing was found.
    """
    nearest, asked = hop_skip_jump(model, split, settings, seed)
    batch = len(split.x)
    unbroken = predict(model, nearest, batch) == split.y
    distance = (nearest - split.x).abs().flatten(1).amax(1)
    distance = torch.where(unbroken, torch.inf, distance)
    distance = torch.where(predict(model, split.x, batch) == split.y, distance, 0)
    return {"hop_skip_distance": distance, "hop_skip_queries": torch.full_like(distance, asked)}
