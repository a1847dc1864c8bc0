"""Texts and tables that reports are made from, refused where they are not as they were written.

Beside the tables of a study lie their digests.
"""

import hashlib
from pathlib import Path

import pandas as pd

from tla.files import AGAIN, read_bytes, read_csv, read_metrics, write_json
from tla.params import Params, UserError

DIGESTS = "digests.json"


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def seal(folder: Path) -> None:
    """Write the digests of all tables in a folder."""
    write_json(folder / DIGESTS, {path.name: digest_of(path) for path in folder.glob("*.csv")})


def read_text(path: Path, again: str = AGAIN) -> str:
    """The text of a file. Raises UserError where there is none."""
    try:
        return read_bytes(path, again).decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text in UTF-8; {again}") from None


def table_path(params: Params, name: str) -> Path:
    """Where a table of a study lies."""
    return Path("reports", params.dataset, "tables", f"{name}.csv")


def read_table(params: Params, name: str) -> pd.DataFrame:
    """One of the tables of a study; only an empty cell is a missing value.

    Raises UserError where it is not as it was written.
    """
    path = table_path(params, name)
    table = read_csv(path)
    if read_metrics(path.with_name(DIGESTS)).get(path.name) != digest_of(path):
        raise UserError(f"{path}: was edited or cut; {AGAIN}")
    return table
