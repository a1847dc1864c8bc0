"""Scripts that refuse something, run here as from a shell: what they say, and what they leave."""

import hashlib
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

LONGEST = 700       # characters of a line


def ended(main, *argv):
    """The exit status of a script, and what it, Python or the guard says on stderr."""
    with redirect_stderr(StringIO()) as said:
        code = _status(main, list(argv))
        if isinstance(code, str):       # as Python ends: it says so, and the status is 1
            print(code, file=sys.stderr)
            code = 1
    return code, said.getvalue()


def _status(main, argv):
    try:
        main(argv)
        return 0
    except SystemExit as end:
        return end.code
    except BaseException:
        try:
            sys.excepthook(*sys.exc_info())
        except SystemExit as end:
            return end.code


def tree(folder=Path()):
    """What every file below a folder holds, and which folders there are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if "__pycache__" not in path.parts:
            content = path.read_bytes() if path.is_file() else b"no file"
            found[str(path)] = hashlib.sha256(content).hexdigest()
    return found


def refusal(main, *argv):
    """The one line on stderr of a script that ends with exit status 1 and changes no file."""
    before = tree()
    code, line = ended(main, *argv)
    assert code == 1, f"exit status {code}: {line}"
    assert line.count("\n") == 1 and line.endswith("\n"), line
    assert len(line) <= LONGEST, line
    after = tree()
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert not changed, f"changed: {sorted(changed)}"
    return line.removesuffix("\n")
