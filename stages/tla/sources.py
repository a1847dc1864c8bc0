"""Which source a result hangs on."""

import ast
import hashlib
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).parents[1]     # the folder that the package `tla` lies in
NEUTRAL = LIBRARY / "tla" / "params.py"     # a result knows the values that it was made with


def code_of(*modules: str) -> str:
    """SHA-256 over the source of modules of this library and of all they import, however deep."""
    found, waiting = {}, list(modules)
    while waiting:
        place = LIBRARY.joinpath(*waiting.pop().split("."))
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.exists() and path not in found and path != NEUTRAL:
                found[path] = path.read_bytes()
                waiting += _imported(found[path])
    digest = hashlib.sha256()
    for path in sorted(found):
        digest.update(found[path])
    return digest.hexdigest()


@cache
def _imported(source: bytes) -> list[str]:
    """Names that a source may import as modules: `from tla import files` is tla and tla.files.

    Parsing takes far longer than reading, and is asked for each time that a model is loaded.
    """
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names
