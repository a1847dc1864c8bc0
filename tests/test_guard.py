"""How a script ends: in one line, as a defect, at Ctrl-C, with its parent; its workers with it."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch
from test_workers import CORES, STAGES

from tla import guard

SCRIPT = """
import tla.guard
import os, sys, time
from pathlib import Path
from tla.workers import map_parallel

def sleep(item):
    Path(f"worker-{os.getpid()}").touch()
    time.sleep(100)

"""
SLEEPING = SCRIPT + 'map_parallel(sleep, range(2), "sleeping")'
several_cores = pytest.mark.skipif(CORES < 2, reason="one core")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")


def started(code, folder, **more):
    """A script in a process group of its own, as a shell gives it one."""
    environment = os.environ | {"PYTHONPATH": str(STAGES)} | more
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed,
                            start_new_session=True)


def heed():
    """Ctrl-C, which a shell's background jobs, the tests perhaps, ignore and hand on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def waited_for(what, seconds=60):
    """What the function returns, once that is true."""
    for _ in range(10 * seconds):
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def workers_in(folder, number=2):
    """The processes of workers, once all have begun."""
    found = waited_for(lambda: len(set(folder.glob("worker-*"))) == number
                       and [path.name for path in folder.glob("worker-*")])
    return [int(name.removeprefix("worker-")) for name in found]


def gone(process):
    """Whether a process is no more, or waits for nothing but to be buried."""
    try:
        return re.search(r"State:\s+Z", Path(f"/proc/{process}/status").read_text()) is not None
    except (FileNotFoundError, ProcessLookupError):
        return True


@on_linux
@several_cores
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(ending, tmp_path):
    with started(SLEEPING, tmp_path) as script:
        workers = workers_in(tmp_path)
        assert not any(map(gone, workers))
        script.send_signal(ending)
    waited_for(lambda: all(map(gone, workers)))


@several_cores
def test_an_interrupt_ends_a_script_and_its_workers_at_once_in_one_line(tmp_path):
    """As a terminal sends it: to all of them."""
    with started(SLEEPING, tmp_path) as script:
        workers = workers_in(tmp_path)
        os.killpg(script.pid, signal.SIGINT)
        begun = time.monotonic()
        _, error = script.communicate()
    assert time.monotonic() - begun < 50
    assert script.returncode == 130
    assert re.fullmatch("interrupted; .*finished work is kept\n", error)
    waited_for(lambda: all(map(gone, workers)))


def test_an_interrupt_while_libraries_are_loaded_is_one_line_too(tmp_path):
    (tmp_path / "slow.py").write_text("import pathlib, time\npathlib.Path('on').touch()\n"
                                      "time.sleep(100)\n")
    with started("import sys; sys.path.insert(0, '.')\nimport tla.guard\nimport slow",
                 tmp_path) as script:
        waited_for((tmp_path / "on").exists)
        script.send_signal(signal.SIGINT)
        _, error = script.communicate()
    assert script.returncode == 130 and re.fullmatch("interrupted; .*\n", error)


@on_linux
@pytest.mark.parametrize("tied", [True, False])
def test_a_script_that_dvc_runs_ends_with_it_and_another_does_not(tied, tmp_path):
    """One that a shell started goes on when that is closed."""
    child = SCRIPT + "sleep(0)"
    parent = ("import subprocess, sys, time\n"
              f"subprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(100)")
    with started(parent, tmp_path, **({"DVC_STAGE": "train@at"} if tied else {})) as script:
        (process,) = workers_in(tmp_path, 1)
        script.kill()
    try:
        if tied:
            waited_for(lambda: gone(process))
        time.sleep(0.5)
        assert gone(process) == tied
    finally:
        if not gone(process):
            os.kill(process, signal.SIGKILL)


def full_disk(name=None):
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


def too_large():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(10**15)
    return refused.value


@pytest.mark.parametrize(("error", "words"), [
    (KeyboardInterrupt(), "interrupted"), (full_disk("x/y"), "x/y: No space left .*; free"),
    (full_disk(), "below /.*, or printed: No space left .*; free"),
    (FileNotFoundError(errno.ENOENT, "No such file", "x"), "x: No such file; run dvc repro"),
    (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x"), "x: Not a directory; move"),
    (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied; make it"),
    (MemoryError(), "memory; lower train.batch"), (too_large(), "memory; lower train.batch"),
    (BrokenProcessPool("x"), "a worker was killed"),
    (ModuleNotFoundError("No module named 'torch'", name="torch"), "torch: is not installed")],
    ids=lambda value: type(value).__name__)
def test_what_the_user_can_mend_is_one_line(error, words):
    line = guard.said(error)
    assert re.search(words, line) and "\n" not in line


@pytest.mark.parametrize("error", [
    ValueError("x"), KeyError("x"), RuntimeError("shapes differ"), OSError("x"),
    ModuleNotFoundError("No module named 'tla.x'", name="tla.x")], ids=repr)
def test_all_else_is_a_defect(error):
    assert guard.said(error) is None


def test_a_defect_keeps_its_traceback_and_says_so(tmp_path):
    with started("import tla.guard\n1 / 0", tmp_path) as script:
        _, error = script.communicate()
    assert script.returncode == 1
    assert "Traceback" in error and "ZeroDivisionError" in error
    assert error.endswith(f"{guard.DEFECT}\n")


def test_what_the_user_can_mend_is_said_without_more(tmp_path):
    with started("import tla.guard\nfrom tla.params import UserError\nraise UserError('a: b')",
                 tmp_path) as script:
        _, error = script.communicate()
    assert (script.returncode, error) == (1, "a: b\n")


SCRIPTS = [path for path in sorted(STAGES.glob("*.py")) if "__main__" in path.read_text()]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_script_is_guarded_before_it_imports_anything_else(path):
    imports = re.findall(r"(?m)^(?:import|from) (\S+)", path.read_text())
    assert imports[0] == "tla.guard"
