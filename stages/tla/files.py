"""Small text files that diff well: sorted keys, fixed rounding, written whole or not at all."""

import gzip
import io
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

DIGITS = 4


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one move, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)      # a full disk keeps no half of it


def write_text(path: Path, text: str) -> None:
    """Write a text file in one move, creating its folder."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: dict) -> None:
    """Plain data as JSON: keys sorted, one a line."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def write_metrics(path: Path, metrics: dict[str, float | int]) -> None:
    """Flat metrics as JSON: keys sorted, fractions to four places, counts as they are."""
    write_json(path, {k: round(v, DIGITS) if isinstance(v, float) else v
                      for k, v in metrics.items()})


def read_metrics(path: Path) -> dict[str, float | int]:
    """The metrics of one file."""
    return json.loads(path.read_text())


def write_table(path: Path, table: pd.DataFrame, exact: bool = False) -> None:
    """A small table for git: CSV, fractions to four places.

    Where `exact`, to twelve digits: what verdicts are computed from, and equal on every machine.
    """
    form = "%.12g" if exact else f"%.{DIGITS}f"
    write_text(path, table.to_csv(index=False, float_format=form, lineterminator="\n"))


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """One row per test example, gzipped CSV; no time stamp, so that equal rows are equal bytes."""
    text = rows.to_csv(index=False, float_format="%.9g", lineterminator="\n")
    write_bytes(path, gzip.compress(text.encode(), mtime=0))


def read_rows(path: Path) -> pd.DataFrame:
    """Rows as written by `write_rows`."""
    return pd.read_csv(path, compression="gzip")


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Arrays by name, compressed; no time stamp, so that equal arrays are equal bytes."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_bytes(path, content.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays as written by `write_arrays`; never a pickle."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
