"""Pixels that a figure needs later, kept as one plain PNG of equal tiles. Imports no torch."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from tla.files import AGAIN, read_bytes
from tla.params import UserError


def write_tiles(path: Path, tiles: np.ndarray) -> None:
    """Tiles [rows, columns, c, h, w] in [0, 1], c = 1 or 3, as one picture without gaps."""
    rows, columns, c, h, w = tiles.shape
    sheet = tiles.transpose(0, 3, 1, 4, 2).reshape(rows * h, columns * w, c)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (255 * sheet).round().astype(np.uint8)
    Image.fromarray(pixels[..., 0] if c == 1 else pixels).save(path)


def read_tiles(path: Path, rows: int, columns: int) -> np.ndarray:
    """The tiles of a picture, [rows, columns, h, w] or [rows, columns, h, w, 3], 0 to 255."""
    try:
        sheet = np.asarray(Image.open(BytesIO(read_bytes(path))))
        h, w = sheet.shape[0] // rows, sheet.shape[1] // columns
        return sheet.reshape(rows, h, columns, w, *sheet.shape[2:]).swapaxes(1, 2)
    except (OSError, ValueError):
        raise UserError(f"{path}: is no picture of {rows} x {columns} tiles; {AGAIN}") from None
