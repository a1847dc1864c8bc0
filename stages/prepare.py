"""Prepare a data set: images, labels, and which image is in which part for each seed."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from tla.command import study_arguments
from tla.files import write_table
from tla.train.data import PARTS, SOURCES, split_parts


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
    part = split_parts(raw, params.seeds, params.data)

    arrays = {"x": raw.x, "scale": np.float32(raw.scale), "y": raw.y.astype(np.int64),
              "idx": np.arange(len(raw.y)), "part": part}
    tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
    folder = Path("data", params.dataset, "prepared")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "images.safetensors")
    write_table(Path("reports", params.dataset, "splits.csv"), parts_table(params, raw.y, part))


if __name__ == "__main__":
    main()
