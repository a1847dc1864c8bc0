"""How a script ends that cannot go on: what the user can mend in one line, else as a defect.

Scripts import it first, so that it also speaks for their other imports. UserErrors need no help.
Run by DVC, a script ends with it.
"""

import errno
import os
import sys
import traceback
from types import TracebackType

from tla.parent import end_with

DEFECT = "This is a defect of the project, not of your files: please report it with the lines above"
INTERRUPTED = 130       # what shells call a process that Ctrl-C ended
MADE, MOVED = "run dvc repro, which makes it", "move what is there away"
REMEDIES = {
    errno.ENOENT: MADE, errno.ENOTDIR: MOVED, errno.EISDIR: MOVED, errno.EEXIST: MOVED,
    errno.ENOSPC: "free some space and run again", errno.EDQUOT: "free some space and run again",
    errno.EROFS: "make it writable", errno.EACCES: "make it accessible to you",
    errno.EPERM: "make it accessible to you", errno.EPIPE: "read to the end what is printed",
    errno.EMFILE: "raise ulimit -n"}
MEMORY = ("does not fit into memory; lower train.batch, evaluate.batch or model.widths, or end "
          "other programs")


def said(error: BaseException) -> str | None:
    """What the user can do about an error, in one line; None where it is a defect."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; run the same command again: finished work is kept"
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("tla"):
        return f"{error.name}: is not installed; run make, or pip install -r requirements.txt"
    if isinstance(error, OSError) and error.errno in REMEDIES:
        place = error.filename or f"what is written below {os.getcwd()}, or printed"
        return f"{place}: {error.strerror}; {REMEDIES[error.errno]}"
    name = type(error).__name__     # of libraries that need not be loaded
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" \
            or "can't allocate memory" in str(error):
        return f"the work {MEMORY}"
    if name == "BrokenProcessPool":
        return f"a worker was killed from outside, most likely as the work {MEMORY}"
    return None


def _end(kind: type, error: BaseException, trace: TracebackType | None) -> None:
    line = said(error)
    if line is None:
        traceback.print_exception(kind, error, trace)
        line = DEFECT
    print(line, file=sys.stderr)
    sys.exit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1)


sys.excepthook = _end
if "DVC_STAGE" in os.environ:
    end_with(os.getppid())
