"""Scripts that refuse something, run here as from a shell: what they say, and what they leave."""

import hashlib
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

LONGEST = 700       # characters of a line


def status(main, argv):
    """The exit status of a script; what Python, or the guard, says at its end is on stderr."""
    try:
        main(argv)
        return 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        try:
            sys.excepthook(*sys.exc_info())
        except SystemExit as end:
            code = end.code
    if isinstance(code, str):
        print(code, file=sys.stderr)
        return 1
    return code


def tree(folder=Path()):
    """What every file below a folder holds, and which folders there are."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if "__pycache__" not in path.parts:
            content = path.read_bytes() if path.is_file() else b"no file"
            found[str(path)] = hashlib.sha256(content).hexdigest()
    return found


def refusal(main, *argv, code=1):
    """The one line on stderr of a script that ends with this exit status and changes no file."""
    before, said = tree(), StringIO()
    with redirect_stderr(said):
        found = status(main, list(argv))
    line = said.getvalue()
    assert found == code, f"exit status {found}: {line}"
    assert line.count("\n") == 1 and line.endswith("\n"), line
    assert len(line) <= LONGEST, line
    after = tree()
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert not changed, f"changed: {sorted(changed)}"
    return line.removesuffix("\n")
