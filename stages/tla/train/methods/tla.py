"""TLA: triplet loss adversarial training, the paper's method."""

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Positive, Weight

LABEL = "TLA"
BASELINES = ("at", "alp", "trades", "at-norm", "tla-sa")
MINES = True
# A triplet loss near its margin with all triplets active means that embeddings have collapsed.
LOGS = ("active_triplets", "positive_distance", "negative_distance", "loss_over_margin",
        "norm_term")


@dataclass(frozen=True, config=CHECKED)
class Parameters:
    """A null margin switches that triplet off; one of the two must be on."""

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
    the negative the mined one; all three embeddings receive gradient, and each is a forward pass of
    its own as in the authors' code.
    """
    return triplets(model, batch, parameters, switched=False)


def triplets(model, batch, parameters, switched: bool):
    """The loss of TLA; `switched` swaps anchor and positive (TLA-SA).

    The distance to the negative is then that of the clean image.
    """
    import torch
    negatives, found = mine(model, batch)
    logits, anchor = model(batch.x_adv)
    positives = []
    if parameters.margin_twin is not None:
        positives.append((parameters.margin_twin, model(batch.x)[1]))
    if parameters.margin_class is not None:
        same_class = batch.miner.positives(batch.y)
        positives.append((parameters.margin_class, model(same_class)[1]))
    negative = model(negatives)[1]
    total = classified = batch.cross_entropy(logits)
    logs = []
    for margin, positive in positives:
        triplet, norm, log = metric_terms(anchor, positive, negative, found, margin, switched)
        total = total + parameters.lambda1 * triplet + parameters.lambda2 * norm
        logs.append(log)
    mean = torch.stack(logs).mean(0).tolist()
    return total, dict(zip(LOGS, mean, strict=True), cross_entropy=classified.item(),
                       no_negative=1 - found.float().mean().item())


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


def mine(model, batch):
    """Negatives for the adversarial anchors; features in evaluation mode as the authors."""
    import torch
    model.eval()
    with torch.no_grad():
        anchor = model(batch.x_adv)[1]
    negatives, found = batch.miner.negatives(model, anchor, batch.y)
    model.train()
    return negatives, found
