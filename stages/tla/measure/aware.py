"""An attacker who knows the detector: images that are misclassified and look as normal as can be.

The scores of `tla.measure.embedding.Normality` once more, in PyTorch, so that a gradient goes
through them. Against a detector only an attack on the detector itself says what it is worth
(Carlini and Wagner 2017, "Adversarial Examples Are Not Easily Detected").
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tla.measure.embedding import Normality, outputs
from tla.measure.referee import check
from tla.params import Detect
from tla.train.data import Split
from tla.train.pgd import cross_entropy, pgd_linf, random_start

Score = Callable[[Tensor, Tensor], Tensor]  # logits [n, k], embeddings [n, d] -> how normal, [n]


def scores_of(normality: Normality, device: torch.device) -> dict[str, Score]:
    """The scores by name, in float64; each can be differentiated.

    softmax is the logarithm of that of `normality`: it orders alike, and its gradient does not
    vanish where the probability is near 1.
    """
    def softmax(logits: Tensor, embedding: Tensor) -> Tensor:
        return logits.double().log_softmax(1).amax(1)

    return {"softmax": softmax, "neighbors": _neighbors(normality, device),
            "mixture": _mixture(normality, device)}


def _unit(embedding: Tensor) -> Tensor:
    return F.normalize(embedding.double(), dim=1, eps=1e-12)


def _neighbors(normality: Normality, device: torch.device) -> Score:
    """Minus the mean cosine distance to the k nearest; who they are has no gradient."""
    train = torch.from_numpy(normality.train).to(device)
    coarse = train.float().T

    def score(logits: Tensor, embedding: Tensor) -> Tensor:
        h = _unit(embedding)
        with torch.no_grad():       # float32 finds them, at half the time
            rows = (h.float() @ coarse).topk(normality.neighbors, dim=1).indices
        return (h * train[rows].mean(1)).sum(1) - 1
    return score


def _mixture(normality: Normality, device: torch.device) -> Score:
    """Log-likelihood under the Gaussian mixture: sums of squares of whitened embeddings."""
    mixture = normality.mixture
    d, root = mixture.means_.shape[1], _roots(mixture)
    diagonal = root if root.ndim == 2 else np.diagonal(root, axis1=1, axis2=2)
    constant = np.log(mixture.weights_) + np.log(diagonal).sum(1) - d / 2 * math.log(2 * math.pi)
    squares = _squares(*(torch.tensor(a, device=device) for a in (mixture.means_, root)))
    constant = torch.tensor(constant, device=device)

    def score(logits: Tensor, embedding: Tensor) -> Tensor:
        return (constant - squares(_unit(embedding)) / 2).logsumexp(1)
    return score


def _squares(means: Tensor, root: Tensor) -> Callable[[Tensor], Tensor]:
    """Squared Mahalanobis distances [n, k] of embeddings [n, d]; root as `_roots` gives it."""
    if root.ndim == 3:
        centres = torch.einsum("kd,kde->ke", means, root)
        return lambda h: (torch.einsum("nd,kde->nke", h, root) - centres).square().sum(2)
    precision = root.square()       # the square multiplied out: two products of matrices
    constant = (means.square() * precision).sum(1)
    return lambda h: h.square() @ precision.T - 2 * h @ (means * precision).T + constant


def _roots(mixture) -> np.ndarray:
    """Cholesky factors of each component's precision, [k, d, d]; [k, d] where all are diagonal."""
    root, (k, d) = mixture.precisions_cholesky_, mixture.means_.shape
    if mixture.covariance_type == "tied":
        return np.broadcast_to(root, (k, d, d)).copy()
    if mixture.covariance_type == "spherical":
        return np.broadcast_to(root[:, None], (k, d)).copy()
    return root


def weighted_pgd(model: nn.Module, x: Tensor, y: Tensor, score: Score, weight: Tensor, *,
                 eps: float, step_size: float, steps: int, start: Tensor) -> Tensor:
    """`pgd_linf` up a weighted sum of two gradients: of cross-entropy and of the score.

    Each gradient of an image is scaled to L1 norm 1; the score's counts `weight`, [n] in [0, 1],
    the other one the rest. With weight 0 the images are those of `pgd_linf`.
    """
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    x_adv, weight = start, weight.view(-1, 1, 1, 1)
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        logits, embedding = model(x_adv)
        (up,) = torch.autograd.grad(cross_entropy(logits, y).sum(), x_adv, retain_graph=True)
        (normal,) = torch.autograd.grad(score(logits, embedding).sum(), x_adv)
        direction = (1 - weight) * _scaled(up) + weight * _scaled(normal)
        x_adv = torch.add(x_adv.detach(), direction.sign(), alpha=step_size).clamp(low, high)
    return x_adv


def _scaled(gradient: Tensor) -> Tensor:
    norm = gradient.flatten(1).abs().sum(1).clamp(min=torch.finfo(gradient.dtype).tiny)
    return gradient / norm.view(-1, 1, 1, 1)


def disguised(model: nn.Module, x: Tensor, y: Tensor, score: Score, unaware: Tensor,
              halvings: int, **pgd) -> Tensor:
    """`unaware`, adversarial images [n, c, h, w], but the misclassified as normal as can be found.

    The weight is bisected for each image: where the run is misclassified it had room for more, else
    it was too much. Of all runs, the unaware one among them, the image is kept that is
    misclassified and scores highest. What the unaware attacker does not break is left as it is.
    """
    wrong, best = _judged(model, unaware, y, score)
    rows = wrong.nonzero().squeeze(1)
    if not len(rows):
        return unaware
    x, y, best, kept, start = x[rows], y[rows], best[rows], unaware[rows], pgd.pop("start")[rows]
    low, high = torch.zeros(len(rows), device=x.device), torch.ones(len(rows), device=x.device)
    for _ in range(halvings):
        weight = (low + high) / 2
        x_adv = weighted_pgd(model, x, y, score, weight, start=start, **pgd)
        wrong, found = _judged(model, x_adv, y, score)
        better = wrong & (found > best)
        kept = torch.where(better.view(-1, 1, 1, 1), x_adv, kept)
        best = torch.where(better, found, best)
        low, high = torch.where(wrong, weight, low), torch.where(wrong, high, weight)
    return unaware.index_copy(0, rows, kept)


@torch.no_grad()
def _judged(model: nn.Module, x: Tensor, y: Tensor, score: Score) -> tuple[Tensor, Tensor]:
    """Who is misclassified, [n], and how normal each looks, [n]."""
    logits, embedding = model(x)
    return logits.argmax(1) != y, score(logits, embedding)


def aware_rows(model: nn.Module, test: Split, normality: Normality, settings: Detect, *, eps: float,
               batch: int, generator: torch.Generator) -> pd.DataFrame:
    """Both attackers on the same images from the same starts, one row an image and eps.

    Columns eps_factor idx label clean_pred, clean_<score>; unaware_linf, unaware_pred and
    unaware_<score>; of the one who knows a score aware_<score>, and with _linf and _pred behind it.
    """
    clean = outputs(model, test.x, batch)
    before = {"idx": test.idx.cpu(), "label": test.y.cpu(), "clean_pred": clean.prediction}
    before |= {f"clean_{name}": values for name, values in normality.scores(clean).items()}
    frames = []
    for factor in settings.aware.eps_factors:
        found = _both(model, test, normality, settings, factor * eps, batch, generator)
        columns = {"eps_factor": factor} | before
        for attacker, x_adv in found.items():
            out = outputs(model, x_adv, batch)
            columns[f"{attacker}_linf"] = check(test.x, x_adv, factor * eps)
            columns[f"{attacker}_pred"] = out.prediction
            for name, values in normality.scores(out).items():
                if attacker == "unaware":
                    columns[f"unaware_{name}"] = values
                elif attacker == f"aware_{name}":
                    columns[attacker] = values
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames)


def _both(model, test: Split, normality: Normality, settings: Detect, eps: float, batch: int,
          generator: torch.Generator) -> dict[str, Tensor]:
    """Images of the unaware attacker and, under aware_<score>, of those who know a score."""
    scores = scores_of(normality, test.x.device)
    pgd = {"eps": eps, "step_size": settings.rel_step_size * eps, "steps": settings.steps}
    parts = {name: [] for name in ("unaware", *(f"aware_{score}" for score in scores))}
    for x, y in zip(test.x.split(batch), test.y.split(batch), strict=True):
        start = random_start(x, eps, generator)
        unaware = pgd_linf(lambda images: model(images)[0], x, y, loss=cross_entropy, start=start,
                           **pgd)
        parts["unaware"].append(unaware)
        for name, score in scores.items():
            parts[f"aware_{name}"].append(disguised(
                model, x, y, score, unaware, settings.aware.halvings, start=start, **pgd))
    return {name: torch.cat(images) for name, images in parts.items()}
