"""Measurements that are kept: one file of columns for each, valid for the key it was written with.

The files stay after the stage, beside DVC's outputs and not among them: what a stage puts out must
not depend on what was measured before, and a persisted output would be part of its lock.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from tla.files import write_bytes
from tla.measure.answers import Columns
from tla.params import UserError
from tla.train.stored import packed, read_tensors


def kept(path: Path, key: dict, function: Callable[[], Columns]) -> Columns:
    """What function() returned when it was last called with this key, else what it returns now.

    The file appears whole or not at all; one that is damaged, or has another key, is written anew.
    `key` holds plain data and dataclasses. The tensors come back on the CPU.
    """
    name = json.dumps(key, sort_keys=True, default=dataclasses.asdict)
    digest = hashlib.sha256(name.encode()).hexdigest()
    if (columns := _load(path, digest)) is not None:
        return columns
    columns = {name: column.cpu().contiguous() for name, column in function().items()}
    # The file itself does not keep the order of columns.
    write_bytes(path, packed(columns, {"key": digest, "columns": list(columns)}))
    return columns


def _load(path: Path, key: str) -> Columns | None:
    """The columns of a file, or None where there is no sound file of this key."""
    try:
        columns, about = read_tensors(path, "")
    except UserError:
        return None
    if about.get("key") != key:
        return None
    return {name: columns[name] for name in about["columns"]}
