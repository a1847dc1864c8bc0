"""How a script ends that cannot go on: what the user can mend in one line, else as a defect.

Scripts import it first, so that it also speaks for their other imports. UserErrors need no help.
"""

import sys
import traceback
from types import TracebackType

DEFECT = "This is a defect of the project, not of your files: please report it with the lines above"
INTERRUPTED = 130       # what shells call a process that Ctrl-C ended


def said(error: BaseException) -> str | None:
    """What the user can do about an error, in one line; None where it is a defect."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; run the same command again: finished work is kept"
    return None


def status(error: BaseException) -> int:
    """The exit status of a script that an error ends."""
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1


def _end(kind: type, error: BaseException, trace: TracebackType | None) -> None:
    line = said(error)
    if line is None:
        traceback.print_exception(kind, error, trace)
        line = DEFECT
    print(line, file=sys.stderr)
    sys.exit(status(error))


sys.excepthook = _end
