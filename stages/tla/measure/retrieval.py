"""Which training images the embedding of an image retrieves, and distances of classes there."""

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from torch import Tensor

from tla.params import Neighbors
from tla.train.data import Split

BLOCK = 1000    # queries that are compared with all of the gallery at a time
SAME = 1e-12    # cosines are rounded to this: what differs by less is a tie, the index decides


def unit(embedding: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, in float64; an all-zero row stays zero."""
    embedding = embedding.astype(np.float64)
    return embedding / np.linalg.norm(embedding, axis=1, keepdims=True).clip(1e-12)


def retrieve(gallery: np.ndarray, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the k gallery embeddings nearest in cosine to each query, nearest first, and cosines.

    Both [n, k], of gallery [m, d] and queries [n, d]; of equally near rows the earlier comes first.
    Raises ValueError where the gallery has fewer than k rows.
    """
    gallery, query = unit(gallery), unit(query)
    if len(gallery) < k:
        raise ValueError(f"asked for {k} neighbours among {len(gallery)} embeddings")
    rows, cosines = np.empty((len(query), k), int), np.empty((len(query), k))
    for first in range(0, len(query), BLOCK):
        with threadpool_limits(1):
            block = query[first: first + BLOCK] @ gallery.T
        least = np.partition(block, -k, axis=1)[:, -k] - SAME
        for i, cosine in enumerate(block, start=first):
            near = np.flatnonzero(cosine >= least[i - first])
            found = (cosine[near] / SAME).round() * SAME
            order = np.argsort(-found, kind="stable")[:k]
            rows[i], cosines[i] = near[order], found[order]
    return rows, cosines


def majority(labels: np.ndarray, classes: int) -> np.ndarray:
    """Most frequent class of each row of labels [n, k], the smaller class on a tie."""
    counts = np.stack([(labels == c).sum(1) for c in range(classes)])
    return counts.argmax(0)


def neighbor_columns(kind: str, found: np.ndarray, y: np.ndarray,
                     classes: int) -> dict[str, np.ndarray]:
    """<kind>_knn and <kind>_precision of images of the classes y, each [n].

    `found` [n, k] are the classes of what each retrieved: knn is their majority, precision the
    share of the image's own class.
    """
    return {f"{kind}_knn": majority(found, classes),
            f"{kind}_precision": (found == y[:, None]).mean(1)}


def figure(test: Split, x_adv: Tensor, prediction: np.ndarray, found: np.ndarray, train: Split,
           settings: Neighbors) -> tuple[np.ndarray, pd.DataFrame]:
    """Queries, clean and adversarial, and the training images in the rows `found` [n, k] retrieved.

    Pixels [queries, 2 + retrieved, c, h, w] and captions: query, predicted, retrieved_<i>. The
    first test image of each class is shown, so that no query is chosen by its result.
    """
    y, labels = test.y.cpu().numpy(), train.y.cpu().numpy()
    queries = np.unique(y, return_index=True)[1][: settings.queries]
    shown = found[queries, : settings.retrieved]
    clean, adversarial = test.x[queries].cpu().numpy(), x_adv[queries].cpu().numpy()
    pixels = np.concatenate([np.stack([clean, adversarial], axis=1),
                             train.x[shown].cpu().numpy()], axis=1)
    captions = {"query": y[queries], "predicted": prediction[queries]}
    for i in range(shown.shape[1]):
        captions[f"retrieved_{i + 1}"] = labels[shown[:, i]]
    return pixels, pd.DataFrame(captions)


def class_distances(query: np.ndarray, query_y: np.ndarray,
                    other: np.ndarray, other_y: np.ndarray) -> tuple[float, float]:
    """Mean cosine distance 1 - cos of queries to the others of their class, and to other classes.

    Embeddings [n, d] of a few images each. Row i of both shows the same image, which is not its own
    neighbour and is left out.
    """
    distance = 1 - unit(query) @ unit(other).T
    same, itself = query_y[:, None] == other_y[None, :], np.eye(len(query), dtype=bool)
    return float(distance[same & ~itself].mean()), float(distance[~same].mean())
