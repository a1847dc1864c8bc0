"""Small text files that diff well: sorted keys, fixed rounding, written whole or not at all.

Rows and arrays say where they were written, so that those of one model are not taken for another's.
Readers raise UserError, which names the file and what makes it again, where it is missing, damaged
or another one.
"""

import gzip
import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from tla.params import UserError

DIGITS = 4
AGAIN = "run dvc repro, which makes it again"
PLACE = "place"     # in arrays: where they were written
NAMED = 8           # a flag of gzip: the header holds a name


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one move, creating its folder. Raises UserError where that cannot be done."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; free some space, or make "
                        "the folder writable") from None
    finally:
        unfinished.unlink(missing_ok=True)      # a full disk keeps no half of it


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A folder to write to; what is in it replaces what has its name in `folder` in the end.

    Nothing is replaced where anything went wrong before.
    """
    unfinished = folder / f"unfinished.{os.getpid()}.tmp"
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        for new in sorted(unfinished.iterdir()):
            if (old := folder / new.name).is_dir():     # only an empty one would give way
                old.rename(unfinished / f"{new.name}.old")
            new.replace(old)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_bytes(path: Path, again: str = AGAIN) -> bytes:
    """The content of a file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; {again}") from None


def place_of(path: Path) -> str:
    """Where rows or arrays lie below data/, as one name: digits.rows.at.suite."""
    below = path.parts[path.parts.index("data") + 1:] if "data" in path.parts else path.parts[-1:]
    return ".".join(below).partition(".csv")[0].removesuffix(".npz")


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
    try:
        return json.loads(read_bytes(path))
    except ValueError:
        raise UserError(f"{path}: is damaged; {AGAIN}") from None


def write_table(path: Path, table: pd.DataFrame, exact: bool = False) -> None:
    """A small table for git: CSV, fractions to four places.

    Where `exact`, to twelve digits: what verdicts are computed from, and equal on every machine.
    """
    form = "%.12g" if exact else f"%.{DIGITS}f"
    write_text(path, table.to_csv(index=False, float_format=form, lineterminator="\n"))


def read_csv(path: Path, again: str = AGAIN) -> pd.DataFrame:
    """A table as written by `write_table`; only an empty cell has no value."""
    return _parsed(path, read_bytes(path, again), again)


def _parsed(path: Path, text: bytes, again: str) -> pd.DataFrame:
    try:
        if text.endswith(b"\n"):        # else it was cut short
            return pd.read_csv(io.BytesIO(text), keep_default_na=False, na_values=[""])
    except ValueError:      # pandas' own errors, and those of decoding, are such
        pass
    raise UserError(f"{path}: is damaged; {again}")


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """One row per test example, gzipped CSV; no time stamp, so that equal rows are equal bytes."""
    text, content = rows.to_csv(index=False, float_format="%.9g", lineterminator="\n"), io.BytesIO()
    with gzip.GzipFile(place_of(path), "wb", fileobj=content, mtime=0) as file:
        file.write(text.encode())
    write_bytes(path, content.getvalue())


def read_rows(path: Path) -> pd.DataFrame:
    """Rows as written by `write_rows`."""
    content = read_bytes(path)
    try:
        text = gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        raise UserError(f"{path}: is damaged; {AGAIN}") from None
    rows = _parsed(path, text, AGAIN)
    name = content[10:content.index(b"\0", 10)] if content[3] & NAMED else b""
    _refuse_other(path, name.decode(errors="replace"))
    return rows


def _refuse_other(path: Path, place: str) -> None:
    if place != place_of(path):
        raise UserError(f"{path}: holds what was written as {place or 'nothing'}; {AGAIN}")


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Arrays by name, compressed; no time stamp, so that equal arrays are equal bytes."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays, **{PLACE: np.array(place_of(path))})
    write_bytes(path, content.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays as written by `write_arrays`; never a pickle."""
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as file:
            arrays = dict(file)
        _refuse_other(path, str(arrays.pop(PLACE)))
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        raise UserError(f"{path}: is damaged; {AGAIN}") from None
    return arrays
