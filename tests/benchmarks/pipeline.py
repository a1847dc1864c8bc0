"""Where the time of `dvc repro` from nothing goes, by kind of stage; `make bench-pipeline`.

It runs in a throw-away clone of the committed tree. A script named python, first on PATH, notes
wall, user and system seconds of every command of a stage. Start-up and import of a script are those
of its --help. What remains of the whole is DVC's own. Ten minutes.
"""

import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from common import REPORTS, ROOT

from tla.files import write_table

KINDS = ("prepare", "resolve", "train", "evaluate", "transfer", "represent", "compare", "report")
SHIM = """#!/usr/bin/env bash
# Runs the real python and adds a line to the log: wall, user and system seconds, command.
TIMEFORMAT="%3R %3U %3S $*"
{{ time {python} "$@" 2>&3; }} 3>&2 2>>{log}
"""
NO_CHANGE, ABLATION = "dvc repro", "dvc exp run -S mining.batch=256"


def shim(folder: Path) -> dict[str, str]:
    """Write the script that times python; returns an environment where it is found first."""
    file = folder / "bin" / "python"
    file.parent.mkdir()
    file.write_text(SHIM.format(python=shlex.quote(sys.executable),
                                log=shlex.quote(str(folder / "log"))))
    file.chmod(0o755)
    places = [str(file.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    return os.environ | {"PATH": os.pathsep.join(places)}


def logged(text: str) -> pd.DataFrame:
    """The log's lines: kind of stage, wall and cpu seconds."""
    lines = []
    for line in text.splitlines():
        wall, user, system, command = line.split(" ", 3)
        kind = Path(command.split()[0]).stem
        lines.append({"kind": kind, "wall": float(wall), "cpu": float(user) + float(system)})
    return pd.DataFrame(lines, columns=["kind", "wall", "cpu"])


def spent(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Wall and cpu seconds of a command and all that it started."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def start_up(kind: str) -> float:
    """Wall seconds until a script could begin, the median of three."""
    command = [sys.executable, f"stages/{kind}.py", "--help"]
    return statistics.median(spent(command, ROOT, dict(os.environ))[0] for _ in range(3))


def by_kind(log: pd.DataFrame, starts: dict[str, float],
            whole: tuple[float, float]) -> pd.DataFrame:
    """A line for each kind of stage, then DVC's own and the whole."""
    lines = []
    for kind, start in starts.items():
        part = log[log.kind == kind]
        lines.append({"kind": kind, "runs": len(part), "wall": part.wall.sum(),
                      "cpu": part.cpu.sum(), "of_which_start": start * len(part)})
    wall, cpu = whole
    lines.append({"kind": "DVC", "runs": 1, "wall": wall - log.wall.sum(),
                  "cpu": cpu - log.cpu.sum(), "of_which_start": float("nan")})
    lines.append({"kind": "total", "runs": 1, "wall": wall, "cpu": cpu,
                  "of_which_start": sum(line["of_which_start"] for line in lines[:-1])})
    return pd.DataFrame(lines)


def again(clone: Path, environment: dict[str, str]) -> Iterator[dict]:
    """What a user does next: nothing to do, three times, and another pool of negatives."""
    for command in (NO_CHANGE, NO_CHANGE, NO_CHANGE, ABLATION):
        wall, cpu = spent(command.split(), clone, environment)
        name = "no change: " if command == NO_CHANGE else ""
        yield {"kind": f"{name}{command}", "runs": 1, "wall": wall, "cpu": cpu,
               "of_which_start": float("nan")}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clone, environment = folder / "clone", shim(folder)
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        whole = spent(["dvc", "repro"], clone, environment)
        log = logged((folder / "log").read_text())
        starts = {kind: start_up(kind) for kind in KINDS}
        lines = list(again(clone, environment))
    table = pd.concat([by_kind(log, starts, whole), pd.DataFrame(lines)])
    print(table.to_string(index=False, na_rep="", float_format="%.1f"))
    write_table(REPORTS / "pipeline.csv", table)


if __name__ == "__main__":
    main()
