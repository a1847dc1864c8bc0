"""TLA-SA: TLA with a switched anchor, the clean image; the adversarial one is the positive."""

from typing import Literal

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Count
from tla.train.methods import tla

LABEL = "TLA-SA"
BASELINES = ("at",)
MINES = True


@dataclass(frozen=True, config=CHECKED)
class Parameters(tla.Parameters):
    """Those of TLA, which image negatives are nearest to (authors: the adversarial one), and a pool
    of its own, so that an ablation of mining.batch leaves it alone."""

    mined_for: Literal["clean", "adversarial"]
    mining_batch: Count


def images(adversary, x, y):
    """PGD images."""
    return adversary.pgd(x, y)


def loss(model, batch, parameters):
    """That of TLA with anchor and positive swapped."""
    mined_for = batch.x if parameters.mined_for == "clean" else batch.x_adv
    return tla.triplet_training(model, batch, parameters, switched=True, mined_for=mined_for)
