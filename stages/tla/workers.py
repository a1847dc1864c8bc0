"""Independent pieces of work on the cores of this machine, with a progress bar."""

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from tqdm import tqdm


def map_parallel(function: Callable, items: Sequence, title: str, parallel: bool = True) -> list:
    """[function(item), ...], one forked worker per core, or one after the other.

    Every item computes on one thread either way, so the number of cores changes no bit of a result.
    `title` names the progress bar over items; `parallel` is off where a GPU is shared.
    """
    bar = partial(tqdm, total=len(items), desc=title, leave=False, disable=None)
    workers = min(len(items), len(os.sched_getaffinity(0)))
    if not parallel or workers < 2:
        return list(bar(map(function, items)))
    _keep_freed_memory()
    global _inherited
    _inherited = function       # the fork carries it over; pickling would copy the data set
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        return list(bar(pool.map(_call_inherited, items)))


def _call_inherited(item):
    return _inherited(item)


def _keep_freed_memory() -> None:
    """Have glibc keep freed tensors: fresh pages for each cost up to a third of an attack."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):    # another C library
        return
    for parameter in (-1, -3):                      # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
        mallopt(parameter, 1 << 26)
