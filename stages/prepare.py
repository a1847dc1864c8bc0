"""Prepare a data set: images, labels, and which image is in which part for each seed."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from tla.core.data import PARTS, SOURCES, split_parts
from tla.files import write_table
from tla.params import load_params


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="params.yaml of the data set")
    params = load_params(parser.parse_args(argv).config)

    raw = SOURCES[params.data.source]()
    part = split_parts(raw, params.seeds, params.data)
    idx = np.arange(len(raw.y))

    folder = Path("data", params.dataset, "prepared")
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"x": raw.x, "scale": np.float32(raw.scale), "y": raw.y.astype(np.int64), "idx": idx, "part": part}
    save_file({k: torch.as_tensor(v) for k, v in arrays.items()}, folder / "images.safetensors")

    named = {f"seed_{seed}": np.array(PARTS)[row] for seed, row in zip(params.seeds, part, strict=True)}
    if params.data.folds is None:
        # All seeds share one split, and beside the official sets only the validation images say something new.
        named = {"part": named.popitem()[1]}
    table = pd.DataFrame({"idx": idx, "label": raw.y, **named})
    write_table(Path("reports", params.dataset, "splits.csv"),
                table if params.data.folds else table[table.part == "validation"])


if __name__ == "__main__":
    main()
