"""AT: adversarial training (Madry et al. 2018)."""

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Rate

LABEL = "AT"
BASELINES = ("um",)
MINES = False


@dataclass(frozen=True, config=CHECKED)
class Parameters:
    """The peak of the learning rate alone."""

    lr: Rate


def images(adversary, x, y):
    """PGD images."""
    return adversary.pgd(x, y)


def loss(model, batch, parameters):
    """Cross-entropy on adversarial images."""
    return batch.cross_entropy(model(batch.x_adv)[0]), {}
