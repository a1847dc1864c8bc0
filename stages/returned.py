"""What comes back from another machine, and whether it was made as it would be made here.

Of each seed the weights with the training log, measurements that are kept, or the state of an
unfinished training. No rows: `evaluate` and `represent` make them here of what is kept.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from away import chosen_of, log_path
from resolve import MEASUREMENTS, settings
from tla.files import write_bytes, write_table
from tla.params import Params, UserError
from tla.pieces import names, read_pieces, write_pieces
from tla.sources import code_of
from tla.train.checkpoints import identity, model_path
from tla.train.stored import difference

IMAGES = "images"               # what archives of images begin with
ABOUT = "data/about.json"       # in every other archive: what it was made with
UNFINISHED = "unfinished"


def prepared_of(params: Params) -> Path:
    """The file of prepared images of a study."""
    return Path("data", params.dataset, "prepared", "images.safetensors")


def made_with(params: Params, model: str, seed: int, kind: str) -> dict:
    """All that decides what is in an archive, as plain data."""
    images = hashlib.sha256(prepared_of(params).read_bytes()).hexdigest()
    known = {"kind": kind, "images": images, "training": identity(params, model, seed)}
    if kind == "kept":
        for name, keys in MEASUREMENTS.items():
            known[name] = settings(asdict(params), keys) | {"code": code_of(name)}
    return json.loads(json.dumps(known))


def hand_out(params: Params, model: str, seed: int, out: Path) -> list[Path]:
    """Write all that there is of one seed; returns the pieces that changed."""
    weights, log = model_path(params, model, seed), log_path(params, model, seed)
    kept = Path("data", "kept", params.dataset, model, f"seed-{seed}").glob("*.safetensors")
    archives, changed = {"weights": [], "kept": sorted(kept), UNFINISHED: []}, []
    if weights.exists():        # then a state is one that was given, and old
        archives["weights"] = [weights, log]
    else:
        archives[UNFINISHED] = [log.with_suffix(".pt")]
    for kind, paths in archives.items():
        files = {str(path): path.read_bytes() for path in paths if path.exists()}
        if files:
            about = json.dumps(made_with(params, model, seed, kind), sort_keys=True)
            files = {ABOUT: about.encode()} | files
        changed += write_pieces(out, f"{model}-seed-{seed}-{kind}", files)
    return changed


def unpack(params: Params, folder: Path) -> None:
    """Put images and what came back where they are looked for, on a machine that has neither."""
    for name in names(folder):
        if name.startswith(IMAGES):
            place(read_pieces(folder, name), replace=False)
    for files in came_back(params, folder).values():
        place(files, replace=False)     # what lies here already is further on


def came_back(params: Params, folder: Path) -> dict[str, dict[str, bytes]]:
    """The files of each archive in a folder that came back, by their paths.

    Raises UserError for one made with other parameters, code or images than today's.
    """
    found = {}
    for name in names(folder):
        if name.startswith(IMAGES):
            continue
        files = read_pieces(folder, name)
        if ABOUT not in files:
            raise UserError(f"{folder / name}: is not from remote.py run")
        about = json.loads(files.pop(ABOUT))
        try:
            kind, training = about["kind"], about["training"]
            model, seed = training["name"], training["seed"]
        except (KeyError, TypeError):
            raise UserError(f"{folder / name}: does not say what it was made with; "
                            "run it again") from None
        chosen_of(params, [model], [seed])
        if kind == "weights":
            about["training"] = embedded(files[str(model_path(params, model, seed))])
        if other := difference(about, made_with(params, model, seed, kind)):
            raise UserError(f"{folder / name}: was made with {other}; run it again")
        found[name] = files
    return found


def embedded(weights: bytes) -> dict:
    """The `identity` of the training that a file of weights names itself."""
    length = int.from_bytes(weights[:8], "little")      # of the header of safetensors
    about = json.loads(json.loads(weights[8: 8 + length])["__metadata__"]["about"])
    return {key: about[key] for key in ("name", "seed", "position", "code", "params")}


def place(files: dict[str, bytes], replace: bool) -> None:
    """Write files by their paths; without `replace` only those that are not there."""
    for path, content in files.items():
        if replace or not Path(path).exists():
            write_bytes(Path(path), content)


def join_logs(params: Params, model: str) -> bool:
    """Write the training log of a model as `train` does, once there is one of every seed."""
    logs = [log_path(params, model, seed) for seed in params.seeds_of(model)]
    if not all(log.exists() for log in logs):
        return False
    write_table(Path("reports", params.dataset, "training", f"{model}.csv"),
                pd.concat([pd.read_csv(log) for log in logs]))
    for log in logs:
        log.unlink()
    return True
