"""TLA-SA: TLA with a switched anchor, the clean image; the adversarial one is the positive."""

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Count
from tla.train.methods import tla

LABEL = "TLA-SA"
BASELINES = ("at",)
MINES = True


@dataclass(frozen=True, config=CHECKED)
class Parameters(tla.Parameters):
    """Those of TLA, and a pool of its own, so that an ablation of mining.batch leaves it alone."""

    mining_batch: Count


def images(adversary, x, y):
    """PGD images."""
    return adversary.pgd(x, y)


def loss(model, batch, parameters):
    """That of TLA with anchor and positive swapped."""
    return tla.triplets(model, batch, parameters, switched=True)
