"""Images from outside a data set's distribution, resized to its shape, and how normal they look."""

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn import functional as F

from tla.measure.embedding import Normality, outputs
from tla.params import Ood
from tla.train.data import SOURCES


def elsewhere(source: str, shape: tuple[int, int, int], images: int,
              generator: torch.Generator) -> Tensor:
    """So many images [n, c, h, w] in [0, 1], drawn with a CPU generator.

    `noise`: uniform pixels. `photos`: random crops of scikit-learn's two photographs. Otherwise
    images of another data set. Grey is repeated over channels, colour is averaged to grey.
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
    photos = []
    for photo in load_sample_images().images:
        photos.append(torch.from_numpy(np.array(photo)).movedim(2, 0) / 255)
    crops = []
    for i in range(images):
        photo = photos[i % len(photos)]
        top = int(torch.randint(photo.shape[1] - height + 1, (), generator=generator))
        left = int(torch.randint(photo.shape[2] - width + 1, (), generator=generator))
        crops.append(photo[:, top: top + height, left: left + width])
    return torch.stack(crops)


def ood_rows(model: nn.Module, normality: Normality, test: Tensor, settings: Ood, *, batch: int,
             generator: torch.Generator) -> pd.DataFrame:
    """Scores of test images [n, c, h, w] and of as many from each source: source and the scores."""
    shape = tuple(test.shape[1:])
    images = {"test": test}
    for source in settings.sources:
        images[source] = elsewhere(source, shape, settings.images, generator).to(test.device)
    frames = []
    for source, x in images.items():
        scores = normality.scores(outputs(model, x, batch))
        frames.append(pd.DataFrame({"source": source} | scores))
    return pd.concat(frames)
