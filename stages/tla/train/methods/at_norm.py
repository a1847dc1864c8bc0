"""AT + norm: the control that has TLA's norm term and none of its triplets."""

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Weight

LABEL = "AT + norm"
BASELINES = ("at",)
MINES = False


@dataclass(frozen=True, config=CHECKED)
class Parameters:
    """Weight of the norm of the adversarial and the clean embedding."""

    lambda2: Weight


def images(adversary, x, y):
    """PGD images."""
    return adversary.pgd(x, y)


def loss(model, batch, parameters):
    """AT plus the norm term of TLA, without the negative's share of it."""
    from tla.train.losses import norm_term
    logits, embedding = model(batch.x_adv)
    norm, classified = norm_term(embedding, model(batch.x)[1]), batch.cross_entropy(logits)
    return classified + parameters.lambda2 * norm, {
        "cross_entropy": classified.item(), "norm_term": norm.item()}
