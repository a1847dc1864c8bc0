"""Data sets as one file of images, labels and parts, the same layout for every data set.

`images.safetensors` holds x float32 [n, c, h, w] in [0, 1], y int64 [n], idx int64 [n] (row in the
original data set) and part uint8 [seeds, n]: 0 training, 1 validation, 2 test, 3 unused.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from tla.params import Data, UserError

TRAIN, VALIDATION, TEST, UNUSED = range(4)
PARTS = ("train", "validation", "test", "unused")


@dataclass(frozen=True)
class Split:
    """One part of the data for one seed."""

    x: Tensor       # [n, c, h, w] in [0, 1]
    y: Tensor       # [n]
    idx: Tensor     # [n] row in the original data set


class Dataset:
    """A prepared data set on disk; `split(position, part)` is one part for one seed."""

    def __init__(self, folder: Path, device: torch.device):
        arrays = load_file(folder / "images.safetensors")
        self.part = arrays["part"]
        self.x, self.y, self.idx = (arrays[k].to(device) for k in ("x", "y", "idx"))
        self.shape: tuple[int, int, int] = tuple(self.x.shape[1:])
        self.classes = int(self.y.max()) + 1

    def split(self, position: int, part: int) -> Split:
        """Part TRAIN, VALIDATION or TEST for the seed at `position` in the list of seeds."""
        rows = torch.nonzero(self.part[position] == part).squeeze(1).to(self.x.device)
        return Split(self.x[rows], self.y[rows], self.idx[rows])


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 handwritten digits, x float32 [n, 1, 8, 8] in [0, 1] and y int64 [n]."""
    from sklearn.datasets import load_digits
    bunch = load_digits()
    return (bunch.images[:, None] / 16).astype(np.float32), bunch.target.astype(np.int64)


def fold_parts(y: np.ndarray, seeds: list[int], data: Data) -> np.ndarray:
    """part uint8 [seeds, n]: stratified folds, one per seed, so no image is tested twice.

    A stratified `validation` share of what remains is set aside per seed; `limit` caps each part.
    Raises UserError where there are more seeds than folds.
    """
    from sklearn.model_selection import StratifiedKFold, train_test_split
    if len(seeds) > data.folds:
        raise UserError(f"seeds lists {len(seeds)} seeds, but data.folds has only {data.folds} folds to test on")
    folds = StratifiedKFold(data.folds, shuffle=True, random_state=data.split_seed)
    parts = np.full((len(seeds), len(y)), UNUSED, np.uint8)
    for row, seed, (rest, test) in zip(parts, seeds, folds.split(y, y), strict=False):
        train, held = train_test_split(
            rest, test_size=data.validation, stratify=y[rest], random_state=seed)
        for part, index in ((TRAIN, train), (VALIDATION, held), (TEST, test)):
            row[index[: data.limit]] = part
    return parts
