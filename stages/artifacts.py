"""Whether what artifacts/ stores of the studies is what was stored there.

Each file is named by its MD5, which dvc.lock asks for: one that was damaged or replaced is found.
"""

import tla.guard  # noqa: F401

import hashlib
from pathlib import Path

from tla.files import read_bytes
from tla.params import UserError

STORED = Path("artifacts", "files", "md5")


def damaged(path: Path) -> bool:
    """Whether a stored file, or a stored list of files, is not what its name says."""
    return hashlib.md5(read_bytes(path)).hexdigest() != path.parent.name + path.stem


def main() -> None:
    files = sorted(STORED.glob("??/*"))
    if found := [path for path in files if damaged(path)]:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise UserError(f"{found[0]}: is damaged or was replaced{more}: its MD5 is not its name; "
                        "run git checkout artifacts")


if __name__ == "__main__":
    main()
