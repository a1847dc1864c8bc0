"""Files on their way between machines: compressed archives, each cut into pieces.

`cat name.tar.gz.* | tar xz` does what `read_pieces` does. gzip's checksum of the whole tells a
piece that is missing or another's.
"""

import gzip
import zlib
from io import BytesIO
from pathlib import Path
from tarfile import TarError, TarInfo
from tarfile import open as open_tar

from tla.files import write_bytes
from tla.params import UserError

PIECE = 15_000_000      # bytes
LEVEL = 1               # of gzip: weights and photographs hardly shrink at any


def write_pieces(folder: Path, name: str, files: dict[str, bytes]) -> list[Path]:
    """The pieces of an archive that changed; without files there are none any more.

    `files`: content by path. Equal files are equal bytes.
    """
    content, changed = _packed(files) if files else b"", []
    parts = [content[start: start + PIECE] for start in range(0, len(content), PIECE)]
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts):
        path = folder / f"{name}.tar.gz.{number:03}"
        if not path.exists() or path.read_bytes() != part:
            write_bytes(path, part)
            changed.append(path)
    for path in _pieces(folder, name)[len(parts):]:
        path.unlink()
    return changed


def read_pieces(folder: Path, name: str) -> dict[str, bytes]:
    """Content by path. Raises UserError where pieces are not whole, or leave the folder data."""
    content = b"".join(path.read_bytes() for path in _pieces(folder, name))
    files = {}
    try:
        with open_tar(fileobj=BytesIO(gzip.decompress(content))) as tar:
            for member in tar:
                files[member.name] = tar.extractfile(member).read()
    except (EOFError, OSError, zlib.error, TarError, AttributeError):
        raise UserError(f"{folder / name}.tar.gz.*: a piece is missing or damaged; "
                        "bring all of them again") from None
    for path in files:
        if not path.startswith("data/") or ".." in path:
            raise UserError(f"{folder / name}.tar.gz.*: {path} is none of data/; not unpacked")
    return files


def names(folder: Path) -> list[str]:
    """Archives of which pieces lie in a folder. Raises UserError where there is no such folder."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one where the pieces lie")
    return sorted({path.name.rsplit(".tar.gz.", 1)[0] for path in folder.glob("*.tar.gz.*")})


def _pieces(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}.tar.gz.*"))


def _packed(files: dict[str, bytes]) -> bytes:
    tar = BytesIO()
    with open_tar(fileobj=tar, mode="w") as archive:
        for path, content in files.items():
            member = TarInfo(path)      # of nobody's, from 1970
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return gzip.compress(tar.getvalue(), LEVEL, mtime=0)
