"""ALP: adversarial logit pairing (Kannan et al. 2018)."""

from typing import Literal

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Rate, Weight

LABEL = "ALP"
BASELINES = ("at",)
MINES = False


@dataclass(frozen=True, config=CHECKED)
class Parameters:
    """Learning rate, weight of the squared distance between clean and adversarial logits, or
    embeddings."""

    lr: Rate
    weight: Weight
    pair: Literal["logits", "embedding"]


def images(adversary, x, y):
    """PGD images."""
    return adversary.pgd(x, y)


def loss(model, batch, parameters):
    """AT plus a squared distance between clean and adversarial logits."""
    from tla.train.losses import pairing_loss
    adv, clean = model(batch.x_adv), model(batch.x)
    which = 0 if parameters.pair == "logits" else 1
    distance, classified = pairing_loss(clean[which], adv[which]), batch.cross_entropy(adv[0])
    return classified + parameters.weight * distance, {
        "cross_entropy": classified, "pair_distance": distance}
