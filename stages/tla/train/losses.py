"""Parts of the training losses, each on plain tensors."""

import torch
from torch import Tensor
from torch.nn import functional as F


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """D(a, b) = 1 - |cos(a, b)| of matching rows, [n] in [0, 1]; larger is farther (utils.py)."""
    return 1 - F.cosine_similarity(a, b, dim=1).abs()


def hinge(positive_distance: Tensor, negative_distance: Tensor, margin: float) -> Tensor:
    """max(0, D(anchor, positive) - D(anchor, negative) + margin), [n]."""
    return F.relu(positive_distance - negative_distance + margin)


def triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Triplet loss per example, [n], of embeddings [n, d] (paper, equation of L_trip)."""
    return hinge(cosine_distance(anchor, positive), cosine_distance(anchor, negative), margin)


def norm_term(*embeddings: Tensor) -> Tensor:
    """Sum over embeddings [n, d] of the mean of squares over n and d (L_norm of utils.py)."""
    return torch.stack([h.square().mean() for h in embeddings]).sum()


def pairing_loss(clean: Tensor, adversarial: Tensor) -> Tensor:
    """Squared L2 distance of paired rows, mean over the batch (Kannan et al. 2018 on logits)."""
    return (adversarial - clean).square().sum(1).mean()


def kl_divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(softmax(reference) || softmax(logits)) per example, [n]."""
    return F.kl_div(logits.log_softmax(1), reference.log_softmax(1), reduction="none",
                    log_target=True).sum(1)


def mixed_cross_entropy(clean_loss: Tensor, adversarial_loss: Tensor, weight: float) -> Tensor:
    """Kurakin et al. 2017, eq. 1: (sum clean + weight * sum adversarial) / (m - k + weight * k).

    `clean_loss` holds the m - k per-example losses of clean images, `adversarial_loss` the other k.
    """
    total = clean_loss.sum() + weight * adversarial_loss.sum()
    return total / (len(clean_loss) + weight * len(adversarial_loss))
