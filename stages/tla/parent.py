"""Processes that end with the one that started them, however that ends."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1    # of Linux, prctl(2)


def end_with(parent: int) -> None:
    """Have the system kill this process when its parent ends; nothing elsewhere than on Linux.

    parent: its process, which may have ended before this is called.
    """
    try:
        prctl = ctypes.CDLL(None).prctl
    except (AttributeError, OSError, TypeError):
        return
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
