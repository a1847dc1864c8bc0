"""Train and attack a study on a machine that has PyTorch and no DVC, some minutes at a time.

`pack` here, `run` there as often as it takes, `accept` here; docs/remote.md shows how.
"""

import tla.guard  # noqa: F401

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save

import away
from returned import (
    IMAGES,
    UNFINISHED,
    came_back,
    hand_out,
    join_logs,
    place,
    prepared_of,
    unpack,
)
from tla.command import Parser
from tla.params import Params, UserError
from tla.pieces import write_pieces
from tla.train.data import SOURCES
from tla.train.methods import load_study


def arguments_of(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="write images as pieces")
    run = commands.add_parser("run", help="go on with training and attacks; write them as pieces")
    accept = commands.add_parser("accept", help="put what came back where the stages look")
    away.add_arguments(run)
    for command in (pack, accept):
        command.add_argument("config", help="params.yaml of the study")
    for command in (pack, run, accept):
        command.add_argument("folder", type=Path, help="where the pieces lie")
    run.add_argument("--minutes", type=minutes, required=True, help="of work, at the most")
    run.add_argument("--out", type=Path, required=True, help="where its pieces go")
    return parser.parse_args(argv)


def minutes(text: str) -> float:
    """A time that passes. Raises ValueError, which the command line turns into words."""
    found = float(text)
    if not 0 < found < 10**6:
        raise ValueError(text)
    return found


def pack(params: Params, folder: Path) -> None:
    """Write the prepared images, and those that `ood` draws from, as pieces."""
    prepared = prepared_of(params)
    if not prepared.exists():
        raise UserError(f"{prepared}: no such file; run dvc repro prepare")
    write_pieces(folder, IMAGES, {str(prepared): prepared.read_bytes()})
    for source in sorted(SOURCES.keys() & set(params.ood.sources)):
        arrays = {name: np.asarray(value) for name, value in vars(SOURCES[source]()).items()}
        path = away.PACKED / f"{source}.safetensors"
        write_pieces(folder, f"{IMAGES}-{source}", {str(path): save(arrays)})


def run(params: Params, arguments: argparse.Namespace) -> None:
    """Go on with the models and seeds; write what there is of them as pieces, and name new ones."""
    chosen = away.chosen_of(params, arguments.models, arguments.seeds)
    unpack(params, arguments.folder)
    code = within(arguments.minutes, [
        sys.executable, away.__file__, arguments.config, "--models", *arguments.models,
        "--seeds", *map(str, arguments.seeds)])
    for model, seed in chosen:
        for piece in hand_out(params, model, seed, arguments.out):
            print(piece)
    if code:
        raise SystemExit(code)


def within(minutes: float, command: list[str]) -> int:
    """The exit status of a command; of one that is stopped as the time is over, 0."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(60 * minutes)
        print("stopped" if code else "finished")
        return code
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)      # its own processes too
        process.wait()
        print("ended before it was done; run again to go on")
        return 0


def accept(params: Params, folder: Path) -> None:
    """Put what came back where the stages look for it; an unfinished training stays where it is.

    Raises UserError, with nothing written, where anything was made otherwise than it would be here.
    """
    found = came_back(params, folder)
    if not found:
        raise UserError(f"{folder}: holds nothing that remote.py run wrote; name the folder that "
                        "came back")
    for name, files in found.items():
        if not name.endswith(UNFINISHED):
            place(files, replace=True)
            print(f"{name}: accepted")
    for model in params.models:
        if join_logs(params, model):
            print(f"{model}: all seeds are trained; dvc commit --force train@{model}")


def main(argv: list[str] | None = None) -> None:
    arguments = arguments_of(argv)
    params = load_study(arguments.config)
    if arguments.command == "pack":
        pack(params, arguments.folder)
    elif arguments.command == "accept":
        accept(params, arguments.folder)
    else:
        run(params, arguments)


if __name__ == "__main__":
    main()
