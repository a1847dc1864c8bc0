"""AT + norm: the control that has TLA's norm term and none of its triplets."""

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Count, Flag, Rate, Weight
from tla.train.methods import tla

LABEL = "AT + norm"
BASELINES = ("at",)
MINES = True


@dataclass(frozen=True, config=CHECKED)
class Parameters:
    """Learning rate, weight of the norm term, which kinds of positives it has a share of, and its
    own pool."""

    lr: Rate
    lambda2: Weight
    twin: Flag
    same_class: Flag
    mining_batch: Count

    def __post_init__(self):
        if not (self.twin or self.same_class):
            raise ValueError("twin and same_class cannot both be false")


def images(adversary, x, y):
    """PGD images."""
    return adversary.pgd(x, y)


def loss(model, batch, parameters):
    """AT plus the norm term of TLA, of the same embeddings: a triplet's each time."""
    from tla.train.losses import norm_term
    logits, anchor, negatives, _ = tla.mine(model, batch, batch.x_adv)
    positives, negative = tla.others(
        model, batch, negatives, parameters.twin, parameters.same_class)
    norm = sum(norm_term(anchor, positive, negative) for positive in positives)
    classified = batch.cross_entropy(logits)
    return classified + parameters.lambda2 * norm, {
        "cross_entropy": classified, "norm_term": norm}
