"""Pixels that are kept for a figure come back as they were."""

import numpy as np
import pytest

from tla.measure.pictures import read_tiles, write_tiles


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_come_back_in_their_place(tmp_path, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, channels, 4, 5))
    write_tiles(tmp_path / "new" / "t.png", pixels / 255)
    back = read_tiles(tmp_path / "new" / "t.png", 2, 3)
    expected = pixels.transpose(0, 1, 3, 4, 2)
    assert np.array_equal(back if channels == 3 else back[..., None], expected)


def test_equal_tiles_are_equal_bytes(tmp_path):
    pixels = np.random.default_rng(0).random((2, 3, 1, 4, 5))
    for name in ("a.png", "b.png"):
        write_tiles(tmp_path / name, pixels)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
