"""UM: the undefended model."""

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Rate

LABEL = "UM"
BASELINES = ()
MINES = False


@dataclass(frozen=True, config=CHECKED)
class Parameters:
    """The peak of the learning rate, as in every method."""

    lr: Rate


def images(adversary, x, y):
    """Clean images."""
    return x


def loss(model, batch, parameters):
    """Cross-entropy on clean images."""
    return batch.cross_entropy(model(batch.x)[0]), {}
