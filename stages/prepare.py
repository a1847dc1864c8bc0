"""Prepare a data set: images in [0, 1], labels, and which image is in which part for each seed."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from tla.data import PARTS, digits, fold_parts
from tla.files import write_table
from tla.params import load_params


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="params.yaml of the data set")
    params = load_params(parser.parse_args(argv).config)

    x, y = digits()
    part = fold_parts(y, params.seeds, params.data)
    idx = np.arange(len(y))

    folder = Path("data", params.dataset, "prepared")
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"x": x, "y": y, "idx": idx, "part": part}
    save_file({k: torch.from_numpy(v) for k, v in arrays.items()}, folder / "images.safetensors")

    named = {f"seed_{seed}": np.array(PARTS)[row] for seed, row in zip(params.seeds, part, strict=True)}
    write_table(Path("reports", params.dataset, "splits.csv"), pd.DataFrame({"idx": idx, "label": y, **named}))


if __name__ == "__main__":
    main()
