"""One loss function per method: given a batch and its adversarial images, what to minimise.

To add a method, write its function, name it in LOSSES and give it a section under `methods` in
params.yaml. Each returns the scalar loss and a dict of numbers worth logging.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tla.core.attacks import LOSSES as ATTACK_LOSSES
from tla.core.attacks import pgd_linf, random_start
from tla.core.losses import cosine_distance, hinge, kl_divergence, mixed_cross_entropy, norm_term, pairing_loss
from tla.core.mining import Miner
from tla.params import Mixed, Norm, NoWeights, Pairing, Trades, Triplet

Logs = dict[str, float]
# A triplet loss near its margin with all triplets active means that embeddings have collapsed.
TRIPLET_LOGS = ("active_triplets", "positive_distance", "negative_distance", "loss_over_margin", "norm_term")


@dataclass(frozen=True)
class Batch:
    """One training step: clean images x, their adversarial images, classes y, and where triplets come from."""

    x: Tensor
    x_adv: Tensor
    y: Tensor
    smoothing: float
    miner: Miner | None

    def cross_entropy(self, logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, self.y, label_smoothing=self.smoothing)


def undefended(model: nn.Module, batch: Batch, weights: NoWeights) -> tuple[Tensor, Logs]:
    """UM: cross-entropy on clean images."""
    return batch.cross_entropy(model(batch.x)[0]), {}


def adversarial(model: nn.Module, batch: Batch, weights: NoWeights) -> tuple[Tensor, Logs]:
    """AT (Madry et al. 2018): cross-entropy on adversarial images."""
    return batch.cross_entropy(model(batch.x_adv)[0]), {}


def pairing(model: nn.Module, batch: Batch, weights: Pairing) -> tuple[Tensor, Logs]:
    """ALP (Kannan et al. 2018): AT plus a squared distance between clean and adversarial logits."""
    adv, clean = model(batch.x_adv), model(batch.x)
    which = 0 if weights.pair == "logits" else 1
    distance, loss = pairing_loss(clean[which], adv[which]), batch.cross_entropy(adv[0])
    return loss + weights.weight * distance, {"cross_entropy": loss.item(), "pair_distance": distance.item()}


def mixed(model: nn.Module, batch: Batch, weights: Mixed) -> tuple[Tensor, Logs]:
    """Kurakin et al. 2017: the first share of the (shuffled) batch is replaced by adversarial images."""
    k = round(weights.adversarial_share * len(batch.x))
    logits = model(torch.cat([batch.x_adv[:k], batch.x[k:]]))[0]
    loss = F.cross_entropy(logits, batch.y, reduction="none", label_smoothing=batch.smoothing)
    return mixed_cross_entropy(loss[k:], loss[:k], weights.adversarial_weight), {}


def trades(model: nn.Module, batch: Batch, weights: Trades) -> tuple[Tensor, Logs]:
    """TRADES (Zhang et al. 2019): clean cross-entropy plus beta times KL(clean || adversarial)."""
    clean, adv = model(batch.x)[0], model(batch.x_adv)[0]
    divergence, loss = kl_divergence(adv, clean).mean(), batch.cross_entropy(clean)
    return loss + weights.beta * divergence, {"cross_entropy": loss.item(), "divergence": divergence.item()}


def adversarial_norm(model: nn.Module, batch: Batch, weights: Norm) -> tuple[Tensor, Logs]:
    """AT plus the norm term of TLA without its triplets, so without the negative's share of the norm."""
    logits, embedding = model(batch.x_adv)
    norm, loss = norm_term(embedding, model(batch.x)[1]), batch.cross_entropy(logits)
    return loss + weights.lambda2 * norm, {"cross_entropy": loss.item(), "norm_term": norm.item()}


def triplet(model: nn.Module, batch: Batch, weights: Triplet, switched: bool = False) -> tuple[Tensor, Logs]:
    """TLA: AT plus, for each kind of positive that has a margin, a triplet and a norm term.

    The anchor is the adversarial image, the positive its clean twin or another image of its class,
    the negative the mined one; all three embeddings receive gradient, and each is a forward pass of
    its own as in the authors' code. `switched` (TLA-SA) swaps anchor and positive, so that the
    distance to the negative is that of the clean image.
    """
    negatives, found = _mine(model, batch)
    logits, anchor = model(batch.x_adv)
    positives = []
    if weights.margin_twin is not None:
        positives.append((weights.margin_twin, model(batch.x)[1]))
    if weights.margin_class is not None:
        positives.append((weights.margin_class, model(batch.miner.positives(batch.y))[1]))
    negative = model(negatives)[1]
    loss = cross_entropy = batch.cross_entropy(logits)
    logs = []
    for margin, positive in positives:
        near = cosine_distance(anchor, positive)
        far = cosine_distance(positive if switched else anchor, negative)
        triplets = hinge(near, far, margin) * found
        norm = norm_term(anchor, positive, negative)
        loss = loss + weights.lambda1 * triplets.mean() + weights.lambda2 * norm
        logs.append(torch.stack([(triplets > 0).float().mean(), near.mean(), far.mean(),
                                 triplets.mean() / margin, norm]).detach())
    mean = torch.stack(logs).mean(0).tolist()
    return loss, dict(zip(TRIPLET_LOGS, mean, strict=True), cross_entropy=cross_entropy.item(),
                      no_negative=1 - found.float().mean().item())


def switched_triplet(model: nn.Module, batch: Batch, weights: Triplet) -> tuple[Tensor, Logs]:
    """TLA-SA: the clean image is the anchor, the adversarial one the positive."""
    return triplet(model, batch, weights, switched=True)


def _mine(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Negatives for the adversarial anchors, with features in evaluation mode as in the paper's code."""
    model.eval()
    with torch.no_grad():
        anchor = model(batch.x_adv)[1]
    negatives, found = batch.miner.negatives(model, anchor, batch.y)
    model.train()
    return negatives, found


MethodLoss = Callable[[nn.Module, Batch, object], tuple[Tensor, Logs]]
LOSSES: dict[str, MethodLoss] = {
    "um": undefended, "at": adversarial, "alp": pairing, "kurakin": mixed,
    "trades": trades, "at-norm": adversarial_norm, "tla": triplet, "tla-sa": switched_triplet,
}


def adversarial_images(
    method: str, logits_fn: Callable, x: Tensor, y: Tensor, *,
    eps: float, step_size: float, steps: int, smoothing: float, generator: torch.Generator,
) -> Tensor:
    """Training images of a method: clean for UM, one FGSM step for Kurakin, PGD for all others.

    PGD raises the model's own (smoothed) cross-entropy from a random start, as the authors' code does;
    for TRADES it raises the divergence from the clean prediction.
    """
    if method == "um":
        return x
    if method == "kurakin":
        return pgd_linf(logits_fn, x, y, eps=eps, step_size=eps, steps=1, start=x,
                        loss=ATTACK_LOSSES["cross_entropy"])

    def loss(logits, labels):
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)

    if method == "trades":
        with torch.no_grad():
            clean = logits_fn(x)

        def loss(logits, labels):
            return kl_divergence(logits, clean)

    return pgd_linf(logits_fn, x, y, eps=eps, step_size=step_size, steps=steps, loss=loss,
                    start=random_start(x, eps, generator))
