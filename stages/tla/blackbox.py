"""Attacks that see no gradient of the model under attack: other models' images, its scores, its decisions."""

import numpy as np
import torch
from art.attacks.evasion import HopSkipJump
from art.estimators.classification import PyTorchClassifier
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from tla.core.data import Split
from tla.params import HopSkip


class Counted(nn.Module):
    """The logits of a model, and how many images it was asked about."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.asked = model, 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        return self.model(x.float())[0]     # HopSkipJump computes in double precision


def square(model: nn.Module, split: Split, *, eps: float, queries: int, batch: int, seed: int) -> Tensor:
    """Images [n, c, h, w] after the score-based Square attack (Andriushchenko et al. 2020)."""
    attack = SquareAttack(Counted(model), norm="Linf", eps=eps, n_queries=queries, seed=seed, device=split.x.device)
    return torch.cat([attack.perturb(x, y) for x, y in
                      zip(split.x.split(batch), split.y.split(batch), strict=True)])


def hop_skip_jump(model: nn.Module, split: Split, settings: HopSkip, seed: int) -> tuple[Tensor, float]:
    """Nearest misclassified images that HopSkipJump (Chen et al. 2020) finds by decisions, and its queries an image.

    It starts from the first image that the model puts into another class, and minimises the L-infinity
    distance without a bound; the caller compares with eps.
    """
    counted = Counted(model)
    classifier = PyTorchClassifier(counted, nn.CrossEntropyLoss(), tuple(split.x.shape[1:]), model.head.out_features,
                                   clip_values=(0.0, 1.0), device_type="gpu" if split.x.is_cuda else "cpu")
    np.random.seed(seed)    # the library draws from numpy's global generator, but starts from an unseeded one
    with torch.no_grad():
        prediction = counted(split.x).argmax(1)
    other = (prediction[:, None] != prediction[None, :]).float()
    if not other.any():     # all are given one class: there is nothing to start from, and nothing is found
        return split.x, counted.asked / len(split.x)
    start = split.x[other.argmax(1)].cpu().numpy()
    attack = HopSkipJump(classifier, norm=np.inf, max_iter=settings.iterations, max_eval=settings.evaluations,
                         init_eval=settings.initial_evaluations, verbose=False)
    found = attack.generate(split.x.cpu().numpy(), x_adv_init=start)
    return torch.from_numpy(found).to(split.x.device), counted.asked / len(split.x)
