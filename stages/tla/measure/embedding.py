"""The embedding h: what a network says of images, how normal they look there, and a picture.

Scores are computed in float64 under one thread and rounded to six significant digits, so that
another machine writes the same bytes.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.manifold import TSNE
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from tla.measure.referee import check
from tla.measure.retrieval import retrieve, unit
from tla.params import Detect, Represent
from tla.train.data import Split
from tla.train.pgd import cross_entropy, pgd_linf, random_start


@dataclass(frozen=True)
class Outputs:
    """Predicted class [n], largest softmax probability [n] and embedding [n, d] of some images."""

    prediction: np.ndarray
    confidence: np.ndarray
    embedding: np.ndarray


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor, batch: int) -> Outputs:
    """What the model says of images x [n, c, h, w], `batch` at a time."""
    confidences, predictions, embeddings = [], [], []
    for part in x.split(batch):
        logits, embedding = model(part)
        confidence, prediction = logits.softmax(1).max(1)
        confidences.append(confidence.cpu())
        predictions.append(prediction.cpu())
        embeddings.append(embedding.cpu())
    return Outputs(torch.cat(predictions).numpy(), torch.cat(confidences).numpy(),
                   torch.cat(embeddings).numpy())


def six_digits(values: np.ndarray) -> np.ndarray:
    """Values [n] rounded to six significant digits, in float64."""
    return np.array([float(f"{value:.6g}") for value in values])


class Normality:
    """Scores of how normal an image looks (higher = more normal), from clean training embeddings.

    softmax: largest softmax probability. neighbors: minus the mean cosine distance to the k nearest
    training embeddings. mixture: log-likelihood under a Gaussian mixture of unit-length embeddings.
    """

    def __init__(self, train: np.ndarray, settings: Detect, seed: int):
        self.train, self.neighbors = unit(train), settings.neighbors
        self.mixture = GaussianMixture(
            settings.components, covariance_type=settings.covariance, random_state=seed)
        with threadpool_limits(1):
            self.mixture.fit(self.train)

    def scores(self, out: Outputs) -> dict[str, np.ndarray]:
        """Each score of every image, [n]."""
        embedding = unit(out.embedding)
        _, cosines = retrieve(self.train, embedding, self.neighbors)
        with threadpool_limits(1):
            likelihood = self.mixture.score_samples(embedding)
        return {"softmax": six_digits(out.confidence),
                "neighbors": six_digits(-(1 - cosines).mean(1)), "mixture": six_digits(likelihood)}


def detection_rows(model: nn.Module, test: Split, clean: Outputs, normality: Normality,
                   settings: Detect, *, eps: float, batch: int,
                   generator: torch.Generator) -> pd.DataFrame:
    """Scores of every clean image and its adversarial image at each eps, one row an image and eps.

    Columns eps_factor idx label linf clean_pred adv_pred, clean_<score> and adv_<score>.
    """
    before = normality.scores(clean)
    frames = []
    for factor in settings.eps_factors:
        x_adv = _attacked(model, test, settings, factor * eps, batch, generator)
        adversarial = outputs(model, x_adv, batch)
        columns = {
            "eps_factor": factor, "idx": test.idx.cpu(), "label": test.y.cpu(),
            "linf": check(test.x, x_adv, factor * eps),
            "clean_pred": clean.prediction, "adv_pred": adversarial.prediction}
        columns |= {f"clean_{name}": score for name, score in before.items()}
        columns |= {f"adv_{name}": score for name, score in normality.scores(adversarial).items()}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames)


def _attacked(model, test: Split, settings: Detect, eps: float, batch: int, generator) -> Tensor:
    """PGD on cross-entropy from a random start, `batch` images at a time."""
    parts = []
    for x, y in zip(test.x.split(batch), test.y.split(batch), strict=True):
        parts.append(pgd_linf(
            lambda images: model(images)[0], x, y, eps=eps, steps=settings.steps,
            step_size=settings.rel_step_size * eps, loss=cross_entropy,
            start=random_start(x, eps, generator)))
    return torch.cat(parts)


def plane(embedding: np.ndarray, settings: Represent, seed: int) -> np.ndarray:
    """t-SNE of embeddings [n, d] under cosine distance, [n, 2] (van der Maaten and Hinton 2008)."""
    perplexity = min(settings.perplexity, (len(embedding) - 1) / 3)     # scikit-learn's bound
    tsne = TSNE(perplexity=perplexity, max_iter=settings.iterations, init="pca", metric="cosine",
                learning_rate=settings.learning_rate, random_state=seed)
    with threadpool_limits(1):
        points = tsne.fit_transform(unit(embedding))
    return np.column_stack([six_digits(points[:, 0]), six_digits(points[:, 1])])
