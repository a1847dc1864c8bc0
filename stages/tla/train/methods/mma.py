"""MMA: maximum-margin adversarial training (Ding et al. 2020).

"authors" is their code, BorealisAI/mma_training. There an image's search starts at the margin that
the last epoch found, here always at the study's eps: a method keeps nothing between steps.
"""

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Fraction, Natural, Positive, Rate

LABEL = "MMA"
BASELINES = ("at",)
MINES = False
TINY = 1e-12    # authors: keeps the direction of an image that did not move finite


@dataclass(frozen=True, config=CHECKED)
class Parameters:
    """Learning rate; margin from which on an image counts no more, how it is looked for, weight of
    clean loss.

    `d_max` is in pixels; the search goes to `search_to` times as far, in `halvings` steps. With
    no halving every margin is the length of the PGD image's change, as in adversarial training.
    """

    lr: Rate
    d_max: Positive
    search_to: Positive
    halvings: Natural
    clean_weight: Fraction

    def __post_init__(self):
        if self.search_to < 1:
            raise ValueError("search_to below 1 never finds a margin of d_max")


def soft_logit_margin(logits, labels):
    """SLM: log of the summed exp of wrong logits, minus the true one; [n], negative inside.

    Cross-entropy is log(1 + exp(SLM)): signed steps on either are the same.
    """
    import torch
    true = logits.gather(1, labels[:, None]).squeeze(1)
    return logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1) - true


def images(adversary, x, y):
    """PGD images that raise the soft logit margin: they give the direction of the search."""
    return adversary.ascend(x, y, soft_logit_margin)


def loss(model, batch, parameters):
    """(1 - w) MMA + w clean cross-entropy, w = clean_weight.

    MMA is the batch's mean of: cross-entropy at the margin, where the image is right (SLM < 0) and
    its margin below d_max; nothing where it is not below; clean cross-entropy of the others.
    """
    import torch
    clean = model(batch.x)[0]
    right = soft_logit_margin(clean.detach(), batch.y) < 0
    moved, margin = at_margin(model, batch, parameters)
    inside = right & (margin < parameters.d_max)
    x = torch.where(right.view(-1, *[1] * (moved.ndim - 1)), moved, batch.x)
    each = batch.cross_entropy(model(x)[0], reduction="none")
    maximal = (each * (inside | ~right)).mean()
    classified = batch.cross_entropy(clean)
    weight = parameters.clean_weight
    return (1 - weight) * maximal + weight * classified, {
        "cross_entropy": classified, "mma": maximal, "margin": (margin * right).mean(),
        "beyond_d_max": (right & ~inside).double().mean(), "wrong": (~right).double().mean()}


def at_margin(model, batch, parameters):
    """Images on the boundary in the direction of batch.x_adv, and their L-infinity margins [n].

    In evaluation mode, as the attack. Margins end at search_to * d_max.
    """
    import torch
    change = batch.x_adv - batch.x
    length = change.flatten(1).abs().amax(1)
    flat = [-1] + [1] * (change.ndim - 1)
    direction = change / (length + TINY).view(flat)

    def moved(margin):
        return (batch.x + margin.view(flat) * direction).clamp(0, 1)

    furthest = parameters.search_to * parameters.d_max
    found = length.clamp(max=furthest)
    low, high = torch.zeros_like(found), torch.full_like(found, furthest)
    mode = model.training
    model.eval()
    with torch.no_grad():
        for _ in range(parameters.halvings):
            held = soft_logit_margin(model(moved(found))[0], batch.y) < 0
            low, high = torch.where(held, found, low), torch.where(held, high, found)
            found = (low + high) / 2
    model.train(mode)
    return moved(found), found
