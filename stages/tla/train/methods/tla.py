"""TLA: triplet loss adversarial training, the paper's method."""

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Positive, Rate, Weight

LABEL = "TLA"
BASELINES = ("at", "alp", "trades", "at-norm", "tla-sa")
MINES = True
# A triplet loss near its margin with all triplets active means that embeddings have collapsed.
LOGS = ("active_triplets", "positive_distance", "negative_distance", "loss_over_margin",
        "norm_term")


@dataclass(frozen=True, config=CHECKED)
class Parameters:
    """Learning rate, weights, margins; a null margin switches that triplet off, one must be on."""

    lr: Rate
    lambda1: Weight
    lambda2: Weight
    margin_twin: Positive | None
    margin_class: Positive | None

    def __post_init__(self):
        if self.margin_twin is None and self.margin_class is None:
            raise ValueError("margin_twin and margin_class cannot both be null")


def images(adversary, x, y):
    """PGD images."""
    return adversary.pgd(x, y)


def loss(model, batch, parameters):
    """AT plus, for each kind of positive that has a margin, a triplet and a norm term.

    The anchor is the adversarial image, the positive its clean twin or another image of its class,
    the negative the mined one; all three embeddings receive gradient.
    """
    return triplet_training(model, batch, parameters, switched=False, mined_for=batch.x_adv)


def triplet_training(model, batch, parameters, *, switched: bool, mined_for):
    """The loss of TLA; `switched` swaps anchor and positive (TLA-SA).

    The distance to the negative is then that of the clean image. The negatives are those nearest
    to the images `mined_for`.
    """
    import torch
    logits, anchor, negatives, found = mine(model, batch, mined_for)
    margins = [m for m in (parameters.margin_twin, parameters.margin_class) if m is not None]
    positives, negative = others(model, batch, negatives, parameters.margin_twin is not None,
                                 parameters.margin_class is not None)
    total = classified = batch.cross_entropy(logits)
    logs = []
    for margin, positive in zip(margins, positives, strict=True):
        triplet, norm, log = metric_terms(anchor, positive, negative, found, margin, switched)
        total = total + parameters.lambda1 * triplet + parameters.lambda2 * norm
        logs.append(log)
    mean = torch.stack(logs).mean(0)
    return total, dict(zip(LOGS, mean, strict=True), cross_entropy=classified,
                       no_negative=1 - found.float().mean())


def metric_terms(anchor, positive, negative, found, margin: float, switched: bool):
    """Mean triplet loss over the batch, the norm term, and the numbers of LOGS."""
    import torch

    from tla.train.losses import cosine_distance, hinge, norm_term
    near = cosine_distance(anchor, positive)
    far = cosine_distance(positive if switched else anchor, negative)
    each = hinge(near, far, margin) * found
    norm = norm_term(anchor, positive, negative)
    triplet = each.mean()
    log = torch.stack([(each > 0).float().mean(), near.mean(), far.mean(), triplet / margin, norm])
    return triplet, norm, log.detach()


def others(model, batch, negatives, twin: bool, same_class: bool):
    """Embeddings of the wanted kinds of positives, a list, and of the negatives."""
    from tla.train.models import embed
    images = [batch.x] if twin else []
    if same_class:
        images.append(batch.miner.positives(batch.y))
    *positives, negative = embed(model, *images, negatives)
    return positives, negative


def mine(model, batch, mined_for):
    """Logits and embeddings of the adversarial images, negatives, and whether there is one.

    Features for mining are those of the evaluation mode, as the authors'; without batch norm the
    pass for the loss gives those of the adversarial images too.
    """
    import torch

    from tla.train.models import has_batch_norm
    if mined_for is batch.x_adv and not has_batch_norm(model):
        logits, anchor = model(batch.x_adv)
        return logits, anchor, *batch.miner.negatives(model, anchor.detach(), batch.y)
    model.eval()
    with torch.no_grad():
        features = model(mined_for)[1]
    negatives, found = batch.miner.negatives(model, features, batch.y)
    model.train()
    return *model(batch.x_adv), negatives, found
