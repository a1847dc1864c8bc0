"""Tensors in safetensors files that say what made them and whether they are whole."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tla.params import UserError

Tensors = dict[str, Tensor]


def packed(tensors: Tensors, about: dict) -> bytes:
    """The content of a file: tensors, what is said about them, and their digest."""
    tensors = {name: values.cpu().contiguous() for name, values in tensors.items()}
    # One entry: safetensors writes several in any order.
    said = about | {"digest": _digest(tensors, about)}
    return save(tensors, {"about": json.dumps(said, sort_keys=True)})


def read_tensors(path: Path, remedy: str) -> tuple[Tensors, dict]:
    """The tensors of such a file, on the CPU, and what it says about them.

    Raises UserError, which ends with the remedy, where there is none or it is not as written.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; {remedy}")
    try:
        with safe_open(path, "pt") as file:
            about, names = json.loads(file.metadata()["about"]), file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        if about.pop("digest") == _digest(tensors, about):
            return tensors, about
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError):
        pass
    raise UserError(f"{path}: is damaged, or no file of this project; {remedy}")


def _digest(tensors: Tensors, about: dict) -> str:
    said = json.dumps(about, sort_keys=True)
    return hashlib.sha256(f"{digest_of(tensors)} {said}".encode()).hexdigest()


def digest_of(tensors: Tensors) -> str:
    """SHA-256 of the names and values of tensors on any device."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].cpu().contiguous().numpy()
        digest.update(f"{name} {values.dtype} {values.shape} ".encode())
        digest.update(values)
    return digest.hexdigest()


def difference(then: dict, now: dict, prefix: str = "") -> str | None:
    """First key on which two nested dictionaries of plain data disagree, in words."""
    for key in sorted(then.keys() | now.keys()):
        a, b = then.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            if found := difference(a, b, f"{prefix}{key}."):
                return found
        elif a != b:
            return f"{prefix}{key} = {a}, today it is {b}"
    return None
