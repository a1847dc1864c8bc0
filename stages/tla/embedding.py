"""What is done with the embedding h: normality scores, retrieval and class distances."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn


@dataclass(frozen=True)
class Outputs:
    """Predicted class [n], largest softmax probability [n] and embedding [n, d] of some images."""

    prediction: np.ndarray
    confidence: np.ndarray
    embedding: np.ndarray


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor, batch: int) -> Outputs:
    """What the model says of images x [n, c, h, w], `batch` at a time."""
    logits, embedding = (torch.cat(parts) for parts in zip(*map(model, x.split(batch)), strict=True))
    confidence, prediction = logits.softmax(1).max(1)
    return Outputs(*(t.cpu().numpy() for t in (prediction, confidence, embedding)))


class Normality:
    """Scores of how normal an image looks (higher = more normal), from clean training embeddings.

    softmax: largest softmax probability. neighbors: minus the mean cosine distance to the k nearest
    training embeddings. mixture: log-likelihood under a Gaussian mixture of unit-length embeddings.
    """

    def __init__(self, train: np.ndarray, k: int, components: int, covariance: str, seed: int):
        self.nearest = NearestNeighbors(n_neighbors=k, metric="cosine").fit(train)
        self.mixture = GaussianMixture(components, covariance_type=covariance, random_state=seed)
        self.mixture.fit(unit(train))

    def scores(self, out: Outputs) -> dict[str, np.ndarray]:
        """Each of `detection.SCORES` for every image, [n]."""
        distance, _ = self.nearest.kneighbors(out.embedding)
        return {"softmax": out.confidence, "neighbors": -distance.mean(1),
                "mixture": self.mixture.score_samples(unit(out.embedding))}


def unit(embedding: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, in float64; an all-zero row stays zero."""
    embedding = embedding.astype(np.float64)
    return embedding / np.linalg.norm(embedding, axis=1, keepdims=True).clip(1e-12)


def retrieve(gallery: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k gallery embeddings nearest in cosine to each query, nearest first, [n, k]."""
    return NearestNeighbors(n_neighbors=k, metric="cosine").fit(gallery).kneighbors(query)[1]


def majority(labels: np.ndarray, classes: int) -> np.ndarray:
    """Most frequent class of each row of labels [n, k], the smaller class on a tie."""
    return np.stack([(labels == c).sum(1) for c in range(classes)]).argmax(0)


def class_distances(query: np.ndarray, query_y: np.ndarray,
                    other: np.ndarray, other_y: np.ndarray) -> tuple[float, float]:
    """Mean cosine distance 1 - cos of queries to the others of their own class, and to those of other classes.

    Row i of both shows the same image, which is not its own neighbour and is left out.
    """
    distance = 1 - unit(query) @ unit(other).T
    same, itself = query_y[:, None] == other_y[None, :], np.eye(len(query), dtype=bool)
    return float(distance[same & ~itself].mean()), float(distance[~same].mean())
