"""Where TLA's positives and negatives come from.

Every step draws a fresh pool of clean training images and embeds it with the current weights in
evaluation mode; each adversarial anchor takes the pool image of another class whose embedding is
nearest in signed cosine (paper, section 4; authors' train_update_fast_triplet.py).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tla.params import UserError
from tla.train.ranks import ALONE, Part


def hardest_negative(anchor: Tensor, y: Tensor, pool: Tensor,
                     pool_y: Tensor) -> tuple[Tensor, Tensor]:
    """Row in the pool of each anchor's nearest other-class embedding, and whether there is one.

    Both are [n]. anchor [n, d] with classes y [n]; pool [m, d] with classes pool_y [m]. Same-class
    candidates are excluded with minus infinity: a factor of zero would prefer them to negative
    similarities.
    """
    similarity = F.normalize(anchor, dim=1) @ F.normalize(pool, dim=1).T
    similarity = similarity.masked_fill(y[:, None] == pool_y[None, :], -torch.inf)
    best = similarity.max(1)
    return best.indices, best.values > -torch.inf


class Miner:
    """Draws positives and negatives from the training images x [n, c, h, w] with classes y [n].

    `augment` is the training augmentation, images [n, c, h, w] to images of the same shape. Anchors
    are a rank's `part` of the batch.
    """

    def __init__(self, x: Tensor, y: Tensor, batch: int, augment: Callable[[Tensor], Tensor],
                 generator: torch.Generator, part: Part = ALONE):
        if batch > len(x):
            raise UserError(f"mining.batch: {batch} are more than the {len(x)} training images")
        self.x, self.y, self.batch = x, y, batch
        self.augment, self.generator, self.part = augment, generator, part
        same, other = [], []
        for k in range(int(y.max()) + 1):
            same.append(torch.nonzero(y == k).squeeze(1))
            other.append(torch.nonzero(y != k).squeeze(1))
        self.same, self.other = _Groups(same), _Groups(other)

    def positives(self, y: Tensor) -> Tensor:
        """A random image of each class of y; as the authors have it, perhaps the anchor's twin."""
        return self._drawn(self.same, y)

    def negatives(self, model: nn.Module, anchor: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """A clean image of another class for each anchor [n, d], and whether one was found [n].

        Anchors are embeddings; `model` must be in evaluation mode. With a pool of 1 every anchor
        draws its own random image of another class (TLA-RN).
        """
        if self.batch == 1:
            return self._drawn(self.other, y), torch.ones_like(y, dtype=torch.bool)
        pool, pool_y = self._pool()
        with torch.no_grad():
            embedding = self.part.gather(model(self.part.share(pool))[1], len(pool))
        index, found = hardest_negative(anchor, y, embedding, pool_y)
        return pool[index], found

    def _drawn(self, groups: "_Groups", y: Tensor) -> Tensor:
        """An image of the group of each class of y, drawn for the whole batch."""
        rows = groups.draw(self.part.gather(y, self.part.whole), self.generator)
        return self.part.share(self.augment(self.x[rows]))

    def _pool(self) -> tuple[Tensor, Tensor]:
        """`batch` different training images, [m, c, h, w], and their classes, [m]."""
        order = torch.randperm(len(self.x), generator=self.generator, device=self.x.device)
        rows = order[: self.batch]
        return self.augment(self.x[rows]), self.y[rows]


class _Groups:
    """Lists of rows of unequal length that one vectorised draw picks from."""

    def __init__(self, groups: list[Tensor]):
        self.rows = torch.cat(groups)
        sizes = [len(group) for group in groups]
        self.size = torch.tensor(sizes, device=self.rows.device)
        self.start = self.size.cumsum(0) - self.size

    def draw(self, group: Tensor, generator: torch.Generator) -> Tensor:
        """A row of each named group, [n], all rows of a group equally likely."""
        chance = torch.rand(len(group), generator=generator, device=group.device,
                            dtype=torch.float64)
        return self.rows[self.start[group] + (chance * self.size[group]).long()]
