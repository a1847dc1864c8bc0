"""What an attack of the suite made of the test images that it broke, for readers to look at."""

import numpy as np
import pandas as pd
from torch import Tensor, nn

from tla.measure.answers import Columns
from tla.measure.suite import attack_columns
from tla.params import Params
from tla.train.data import Dataset, Split

IMAGES = "x_adv"    # the column of the images that an attack returned


def columns_and_images(model: nn.Module, split: Split, **settings) -> Columns:
    """The columns of `attack_columns`, and x_adv, the images returned, uint8 [n, c, h, w].

    The attack shows them to the model at its very end. Raises ValueError for images that are more
    than one of its batches.
    """
    seen = {}

    def remember(_: nn.Module, asked: tuple[Tensor]) -> None:
        seen["last"] = asked[0]

    hook = model.register_forward_pre_hook(remember)
    try:
        columns = attack_columns(model, split, **settings)
    finally:
        hook.remove()
    if seen["last"].shape != split.x.shape:
        raise ValueError(f"{len(split.y)} images are more than one batch")
    return columns | {IMAGES: eight_bits(seen["last"])}


def eight_bits(x: Tensor) -> Tensor:
    """Pixels in [0, 1] as uint8 of 0 to 255, rounded: to be looked at, not to be attacked with."""
    return (255 * x).round().byte()


def broken_images(params: Params, data: Dataset, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """idx, label and pred [n], x and x_adv uint8 [n, c, h, w] of test images that were broken.

    rows: of the attack evaluate.broken names, with their images; at most so many as it says, the
    first ones. Broken is what got another class than its own, whatever the clean image got.
    """
    settings = params.evaluate.broken
    prediction = rows[f"{settings.attack}_pred"]
    rows = rows[prediction != rows.label][: settings.images]
    place = {idx: row for row, idx in enumerate(data.idx.tolist())}
    x = data.x[[place[idx] for idx in rows.idx]]
    return {"idx": rows.idx.to_numpy(), "label": rows.label.to_numpy(),
            "pred": rows[f"{settings.attack}_pred"].to_numpy(),
            "x": eight_bits(x).cpu().numpy(),
            "x_adv": np.array(list(rows[IMAGES]), np.uint8).reshape(len(rows), *data.shape)}
