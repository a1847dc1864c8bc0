"""Prepare a data set: images, labels, and which image is in which part for each seed."""

import tla.guard  # noqa: F401

from pathlib import Path

import numpy as np
import pandas as pd

from tla.command import study_arguments
from tla.files import write_bytes, write_table
from tla.params import blamed
from tla.train.data import PARTS, SOURCES, prepared


def parts_table(params, labels: np.ndarray, part: np.ndarray) -> pd.DataFrame:
    """Part of every image for every seed, by name; with official test images the validation ones.

    All seeds then share one split, and beside the official sets only these say something new.
    """
    table = pd.DataFrame({"idx": np.arange(len(labels)), "label": labels})
    names = np.array(PARTS)
    if params.data.folds is None:
        table["part"] = names[part[0]]
        return table[table.part == "validation"]
    for seed, row in zip(params.seeds, part, strict=True):
        table[f"seed_{seed}"] = names[row]
    return table


def main(argv: list[str] | None = None) -> None:
    params = study_arguments(__doc__, argv)
    raw = SOURCES[params.data.source]()
    with blamed(params.config):
        content, part = prepared(raw, params)
    write_bytes(Path("data", params.dataset, "prepared", "images.safetensors"), content)
    write_table(Path("reports", params.dataset, "splits.csv"), parts_table(params, raw.y, part))


if __name__ == "__main__":
    main()
