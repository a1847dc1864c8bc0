"""Mixed batches of clean and one-step adversarial images (Kurakin et al. 2017)."""

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, OpenFraction, Rate, Weight

LABEL = "Kurakin"
BASELINES = ("um",)
MINES = False


@dataclass(frozen=True, config=CHECKED)
class Parameters:
    """Learning rate, share of adversarial images in a batch, their weight against clean ones."""

    lr: Rate
    adversarial_share: OpenFraction
    adversarial_weight: Weight


def images(adversary, x, y):
    """One FGSM step."""
    return adversary.fgsm(x, y)


def loss(model, batch, parameters):
    """The first share of the (shuffled) batch is replaced by adversarial images."""
    import torch

    from tla.train.losses import mixed_cross_entropy
    k = round(parameters.adversarial_share * len(batch.x))
    logits = model(torch.cat([batch.x_adv[:k], batch.x[k:]]))[0]
    each = batch.cross_entropy(logits, reduction="none")
    return mixed_cross_entropy(each[k:], each[:k], parameters.adversarial_weight), {}
