"""Independent pieces of work on cores, GPUs or a Dask cluster, with a progress bar.

Who computes a piece, and how many share the work, changes no result: a piece computes on one thread
and has random numbers of its own. docs/scaling.md says how to set a cluster up.
"""

import ctypes
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from io import BytesIO
from multiprocessing import active_children, get_context
from pathlib import Path
from pickle import dumps, loads
from queue import SimpleQueue
from types import ModuleType
from uuid import uuid4

from tqdm import tqdm

from tla.params import UserError
from tla.parent import end_with

CLUSTER = "DASK_SCHEDULER_ADDRESS"      # Dask's own name
SECONDS = 10                            # within which a scheduler answers
SHARED = 3                              # processes a core, at most
VISIBLE = "CUDA_VISIBLE_DEVICES"


def map_parallel(function: Callable, items: Sequence, title: str, parallel: bool = True) -> list:
    """[function(item), ...] by the cluster that DASK_SCHEDULER_ADDRESS names, or on this machine.

    Here it is one forked worker per core, or where `parallel` is off, for function computes on a
    GPU, one process per GPU; one after the other where there is but one. `title` names the progress
    bar over items. What function raises reaches the caller; a UserError also if the cluster cannot
    be asked.
    """
    _leave_new_memory_as_it_is()
    if os.environ.get(CLUSTER):
        results = _on_cluster(function, items)
    else:
        results = _on_cores(function, items) if parallel else _on_gpus(function, items)
    return list(tqdm(results, total=len(items), desc=title, leave=False, disable=None))


class Opened:
    """What function(*arguments) returns, as `content`.

    It travels as this recipe, not as the content: a worker on another machine or GPU opens its own,
    once for all the work of one call.
    """

    def __init__(self, function: Callable, *arguments):
        self.recipe, self.content = (function, *arguments), function(*arguments)

    def __reduce__(self):
        return Opened, self.recipe


# Cores

def _on_cores(function: Callable, items: Sequence) -> Iterator:
    cores = len(os.sched_getaffinity(0))
    # A few long items share the cores evenly: five by twos would leave one core idle at the end.
    workers = len(items) if len(items) <= SHARED * cores else cores
    if min(cores, workers) < 2:
        yield from map(function, items)
        return
    _keep_freed_memory()
    global _inherited
    _inherited = function       # the fork carries it over; pickling would copy the data set
    fork, ours = get_context("fork"), (os.getpid(),)
    with ProcessPoolExecutor(workers, fork, end_with, ours) as pool, _killed_at_once():
        with _deaf():
            results = pool.map(_call_inherited, items)
        yield from results


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that start meanwhile hear no Ctrl-C: it reaches this one, which ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _killed_at_once() -> Iterator[None]:
    """Ends the processes at Ctrl-C; a pool would wait until each is through with its item."""
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        for process in active_children():
            process.kill()
        raise


def _call_inherited(item):
    result = _inherited(item)
    _glibc("malloc_trim", 0)    # tensors of many sizes riddle the heap: three gigabytes in an hour
    return result


def _keep_freed_memory() -> None:
    """Have glibc keep freed tensors: fresh pages for each cost up to a third of an attack.

    Up to a gigabyte, as thousands of images at a time free hundreds of megabytes at a step's end;
    a tensor as large as a data set still comes from the system.
    """
    _glibc("mallopt", -1, 1 << 30)      # M_TRIM_THRESHOLD
    _glibc("mallopt", -3, 1 << 26)      # M_MMAP_THRESHOLD


def _leave_new_memory_as_it_is() -> None:
    """Have PyTorch not fill new tensors: where only deterministic algorithms may run, it writes NaN
    into each before its values come, in a tenth of the time of an attack or a training step."""
    if torch := sys.modules.get("torch"):
        torch.utils.deterministic.fill_uninitialized_memory = False


def _glibc(name: str, *arguments: int) -> None:
    """A function of glibc on its memory; nothing with another C library."""
    try:
        getattr(ctypes.CDLL(None), name)(*arguments)
    except (AttributeError, OSError, TypeError):
        return


# GPUs of this machine

def _on_gpus(function: Callable, items: Sequence) -> Iterator:
    devices = _devices()[:len(items)]
    if len(devices) < 2:
        yield from map(function, items)
        return
    code, free = _packed(function), SimpleQueue()

    def call(item):
        process = free.get()
        try:
            return process.submit(_call_packed, code, item).result()
        finally:
            free.put(process)

    with ExitStack() as stack:
        with _deaf():
            for process in _started(devices):
                free.put(stack.enter_context(process))
        threads = stack.enter_context(ThreadPoolExecutor(len(devices)))
        stack.enter_context(_killed_at_once())
        yield from threads.map(call, items)


def _devices() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch  # whoever computes on a GPU has loaded it
    count = torch.cuda.device_count()
    named = os.environ.get(VISIBLE)
    return named.split(",")[:count] if named else [str(device) for device in range(count)]


def _started(devices: list[str]) -> list[ProcessPoolExecutor]:
    """A process for each GPU that sees no other from its start, before it imports torch."""
    processes, before = [], os.environ.get(VISIBLE)
    for device in devices:
        os.environ[VISIBLE] = device
        spawn, ours = get_context("spawn"), (os.getpid(),)
        processes.append(ProcessPoolExecutor(1, spawn, end_with, ours))
        processes[-1].submit(int)       # the first call starts the process
    del os.environ[VISIBLE]
    if before is not None:
        os.environ[VISIBLE] = before
    return processes


def _call_packed(code: bytes, item):
    return _unpacked(code)(item)


def _packed(content) -> bytes:
    """As cloudpickle has it: what a script or a function defines by value, all else by name."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, thing):
            if isinstance(thing, ModuleType):   # cloudpickle stumbles over torch.classes
                return importlib.import_module, (thing.__name__,)
            return super().reducer_override(thing)

    file = BytesIO()
    Pickler(file).dump(content)
    return file.getvalue()


@lru_cache(maxsize=1)
def _unpacked(code: bytes) -> Callable:
    """A function that came from another process. Once a process: it opens the data set."""
    function = loads(code)
    _leave_new_memory_as_it_is()
    return function


# Cluster

def _on_cluster(function: Callable, items: Sequence) -> Iterator:
    with _client(os.environ[CLUSTER]) as client:
        packed = [_packed(item) for item in items]
        for future in client.map(_errand(_packed(function)), packed, pure=False):
            answer = future.result()
            if isinstance(answer, str):
                raise UserError(answer)
            yield loads(answer)


def _client(address: str):
    """A connection to a scheduler. Raises UserError where there is no Dask, or no answer."""
    try:
        from distributed import Client
    except ImportError:
        raise UserError(f"{CLUSTER}: is set, but distributed is not installed; run pip install "
                        "-r requirements-cluster.txt, or unset it") from None
    try:
        return Client(address, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError):
        raise UserError(f"{CLUSTER}: no scheduler answers at {address}; start one (docs/scaling.md)"
                        ", or unset it") from None


def _errand(code: bytes) -> Callable[[bytes], bytes | str]:
    """What a worker of a cluster runs: a packed item in, a packed result or a UserError's line out.

    It comes there by value and speaks of nothing but Python's own library: scheduler and worker
    need not find ours. A worker outlives our commands; what it imported and opened for an earlier
    one may have been edited since, so every call of map_parallel begins anew.
    """
    folder, library, call = os.getcwd(), str(Path(__file__).parents[1]), uuid4().hex

    def errand(item: bytes) -> bytes | str:
        from distributed import get_worker
        worker = get_worker()
        if worker.state.nthreads > 1:
            return f"{worker.address}: this worker has several threads; start it with --nthreads 1"
        if not os.path.isdir(folder):
            return f"{worker.address}: this worker does not see {folder}; it must be shared"
        if getattr(sys.modules.get("tla.workers"), "served", None) != call:
            for name in list(sys.modules):
                if name.split(".")[0] == "tla":
                    del sys.modules[name]
            sys.path[:] = [library, *(path for path in sys.path if path != library)]
            importlib.invalidate_caches()
        os.chdir(folder)
        workers = importlib.import_module("tla.workers")
        workers.served = call
        return workers.answer(code, item)

    return errand


def answer(code: bytes, item: bytes) -> bytes | str:
    """A packed function's packed result, or a UserError's line: as SystemExit it ends a worker."""
    _keep_freed_memory()
    try:
        return dumps(_unpacked(code)(loads(item)))
    except UserError as error:
        return str(error)
