"""Measurements that are kept: one file of columns for each, valid for the key it was written with.

The files stay after the stage, beside DVC's outputs and not among them: what a stage puts out must
not depend on what was measured before, and a persisted output would be part of its lock.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tla.measure.answers import Columns


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
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    save_file(columns, unfinished, _about(digest, columns))
    unfinished.replace(path)
    return columns


def _load(path: Path, key: str) -> Columns | None:
    """The columns of a file, or None where there is no sound file of this key."""
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            columns = {name: file.get_tensor(name) for name in about["columns"].split()}
    except (OSError, SafetensorError, KeyError, TypeError):
        return None
    return columns if about == _about(key, columns) else None


def _about(key: str, columns: Columns) -> dict[str, str]:
    """What is written beside the columns, whose order the file itself does not keep."""
    return {"key": key, "content": digest_of(columns), "columns": " ".join(columns)}


def digest_of(columns: Columns) -> str:
    """SHA-256 of the names and values of tensors on any device."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        values = columns[name].cpu().contiguous().numpy()
        digest.update(f"{name} {values.dtype} {values.shape} ".encode())
        digest.update(values)
    return digest.hexdigest()
