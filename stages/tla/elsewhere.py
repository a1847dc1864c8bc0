"""Images from outside a data set's distribution, resized to its shape."""

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn import functional as F

from tla.core.data import SOURCES


def elsewhere(source: str, shape: tuple[int, int, int], images: int, generator: torch.Generator) -> Tensor:
    """So many images [n, c, h, w] in [0, 1], drawn with a CPU generator.

    `noise`: uniform pixels. `photos`: random crops of scikit-learn's two photographs. Otherwise the test
    images of another data set. Grey images are repeated over channels, colour is averaged to grey.
    """
    channels, height, width = shape
    if source == "noise":
        return torch.rand((images, *shape), generator=generator)
    if source == "photos":
        x = _crops(images, 4 * height, 4 * width, generator)
    else:
        raw = SOURCES[source]()
        rows = torch.randperm(len(raw.x), generator=generator)[:images]
        x = torch.from_numpy(raw.x[rows.numpy()]).float() / raw.scale
    x = x.mean(1, keepdim=True) if channels == 1 else x.expand(-1, channels, -1, -1)
    return F.interpolate(x, (height, width), mode="bilinear", antialias=True).clamp(0, 1)


def _crops(images: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    photos = [torch.from_numpy(np.array(photo)).movedim(2, 0) / 255 for photo in load_sample_images().images]
    crops = []
    for i in range(images):
        photo = photos[i % len(photos)]
        top, left = (int(torch.randint(photo.shape[d] - size + 1, (), generator=generator))
                     for d, size in ((1, height), (2, width)))
        crops.append(photo[:, top: top + height, left: left + width])
    return torch.stack(crops)
