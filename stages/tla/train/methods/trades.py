"""TRADES (Zhang et al. 2019), a yardstick."""

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Rate, Weight

LABEL = "TRADES"
BASELINES = ("at",)
MINES = False


@dataclass(frozen=True, config=CHECKED)
class Parameters:
    """Learning rate; weight of the divergence of adversarial from clean predictions, 1 / lambda in
    the paper."""

    lr: Rate
    beta: Weight


def images(adversary, x, y):
    """PGD images that raise the divergence from the clean prediction."""
    import torch

    from tla.train.losses import kl_divergence
    with torch.no_grad():
        clean = adversary.logits_fn(x)
    return adversary.ascend(x, y, lambda logits, labels: kl_divergence(logits, clean))


def loss(model, batch, parameters):
    """Clean cross-entropy plus beta times KL(clean || adversarial)."""
    from tla.train.losses import kl_divergence
    clean, adv = model(batch.x)[0], model(batch.x_adv)[0]
    divergence, classified = kl_divergence(adv, clean).mean(), batch.cross_entropy(clean)
    return classified + parameters.beta * divergence, {
        "cross_entropy": classified, "divergence": divergence}
