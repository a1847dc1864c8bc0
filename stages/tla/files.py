"""Small text files that diff well: sorted keys, fixed rounding, written whole or not at all."""

import gzip
import json
import os
from pathlib import Path

import pandas as pd

DIGITS = 4


def write_text(path: Path, text: str) -> None:
    """Write a file in one move, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(text)
    unfinished.replace(path)


def write_metrics(path: Path, metrics: dict[str, float | int]) -> None:
    """Flat metrics as JSON: keys sorted, fractions to four places, counts as they are."""
    rounded = {k: round(v, DIGITS) if isinstance(v, float) else v for k, v in sorted(metrics.items())}
    write_text(path, json.dumps(rounded, indent=2) + "\n")


def read_metrics(path: Path) -> dict[str, float | int]:
    """The metrics of one file."""
    return json.loads(path.read_text())


def write_table(path: Path, table: pd.DataFrame) -> None:
    """A small table for git: CSV, fractions to four places."""
    write_text(path, table.to_csv(index=False, float_format=f"%.{DIGITS}f", lineterminator="\n"))


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """One row per test example, gzipped CSV; without time stamp and name, so that equal rows are equal bytes."""
    text = rows.to_csv(index=False, float_format="%.9g", lineterminator="\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.write_bytes(gzip.compress(text.encode(), mtime=0))
    unfinished.replace(path)


def read_rows(path: Path) -> pd.DataFrame:
    """Rows as written by `write_rows`."""
    return pd.read_csv(path, compression="gzip")
