"""VIB: variational information bottleneck (Alemi et al. 2017), adversarially trained.

The embedding is a Gaussian, a draw of it is classified, and its divergence from a standard normal
distribution is the entropy regulariser: an upper bound on what it says of the image.
"""

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Count, Rate, UserError, Weight

LABEL = "VIB"
BASELINES = ("at",)
MINES = False


@dataclass(frozen=True, config=CHECKED)
class Parameters:
    """Learning rate, weight of the divergence, draws that the answer in training is the mean of."""

    lr: Rate
    beta: Weight
    draws: Count


def network(network, parameters, seed):
    """The study's network with a distribution for its embedding. UserError under torchrun."""
    from tla.train.bottleneck import Bottleneck
    from tla.train.ranks import size
    if size() > 1:
        raise UserError("vib: each process would draw noise of its own; start one, without "
                        "torchrun")
    return Bottleneck(network, parameters.draws, seed)


def images(adversary, x, y):
    """PGD images against the expected answer: gradients are means over draws."""
    return adversary.pgd(x, y)


def loss(model, batch, parameters):
    """Cross-entropy of one draw for each adversarial image plus beta times the divergence."""
    mean, scale = model.encode(batch.x_adv)
    logits = model.decode(mean, scale, model.training_noise(mean))
    classified, information = batch.cross_entropy(logits), divergence(mean, scale).mean()
    return classified + parameters.beta * information, {
        "cross_entropy": classified, "divergence": information, "scale": scale.mean()}


def divergence(mean, scale):
    """KL(N(mean, scale^2) || N(0, 1)), summed over coordinates; [n], in nats."""
    return (mean.square() + scale.square() - 1 - 2 * scale.log()).sum(1) / 2
