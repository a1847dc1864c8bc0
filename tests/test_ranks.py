"""Two processes that train one model do what one does: float64, gloo, started by torchrun.

Run as a script, this file is such a process.
"""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import prepare_digits
from torch import distributed

import train as stage
from tla.params import UserError
from tla.train import ranks
from tla.train.checkpoints import load_model, model_path
from tla.train.data import Dataset
from tla.train.methods import load_study, parse_model
from tla.train.models import build
from tla.train.ranks import Part, part_of
from tla.train.training import Trainer

ROOT = Path(__file__).parents[1]
PREPARED = Path("data", "digits", "prepared")
FAILED = "this rank fails"
SMALL = {"seeds": [0, 1], "tune.seeds": [0, 1], "model.widths": [16, 8], "train.epochs": 2,
         "train.validate_every": 1, "train.batch": 24, "mining.batch": 40, "attack.steps": 3,
         "attack.rel_step_size": 0.4}
UNEVEN = {"train.batch": 25, "mining.batch": 41}    # two ranks, and a half that is no number
BOTH = {"methods.tla.margin_twin": 0.2, "methods.tla.margin_class": 0.5}
MOVED = {"train.crop_padding": 1, "train.flip": True, "train.label_smoothing": 0.1}
CASES = {
    "at": ("at", {}),
    "at-uneven": ("at", UNEVEN | MOVED),
    "tla": ("tla", {}),
    "tla-both-uneven": ("tla", UNEVEN | MOVED | BOTH),
    "tla-random": ("tla-b1", UNEVEN),
    "tla-sa": ("tla-sa", {"methods.tla-sa.mining_batch": 41}),
    "trades": ("trades", UNEVEN),
    "kurakin": ("kurakin", {}),
}


class Doubles(Dataset):
    """A prepared data set in float64."""

    def __init__(self, folder, params):
        super().__init__(folder, params, torch.device("cpu"))
        self.x = self.x.double()


def trained(case):
    """The trainer after two epochs of five steps of a case; its folder is that of data/."""
    torch.set_default_dtype(torch.float64)
    try:
        params = load_study(f"{case}.yaml")
        trainer = Trainer(params, CASES[case][0], 0, 0, Doubles(PREPARED, params))
        for _ in range(2):
            trainer.epoch()
        return trainer
    finally:
        torch.set_default_dtype(torch.float32)


def torchrun(script, folder, timeout=60):
    """A finished run of two processes of a script in a folder; none of them is left."""
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "stages"), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*started, script], cwd=folder, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            out, error = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.terminate()     # torchrun ends its processes
            raise
    return subprocess.CompletedProcess(script, process.returncode, out, error)


# Against one process

@pytest.fixture(scope="module")
def folder(raw_params, tmp_path_factory):
    """The params.yaml of every case, the images, and what two ranks made of them."""
    folder = tmp_path_factory.mktemp("ranks")
    for case, (_, changes) in CASES.items():
        write(folder / f"{case}.yaml", raw_params, SMALL | changes)
    prepare_digits(folder / PREPARED, load_study(folder / "at.yaml"))   # 128 to train on
    run = torchrun(__file__, folder)
    assert run.returncode == 1 and FAILED in run.stderr, run.stderr
    return folder


def write(path, raw_params, changes):
    tree = copy.deepcopy(raw_params)
    for key, value in changes.items():
        *parents, leaf = key.split(".")
        section = tree
        for parent in parents:
            section = section[parent]
        section[leaf] = value
    path.write_text(yaml.safe_dump(tree))


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_train_what_one_process_does(case, folder, monkeypatch):
    monkeypatch.chdir(folder)
    alone = trained(case)
    assert alone.steps_per_epoch == 5
    for rank in range(2):
        found = torch.load(folder / f"{case}-{rank}.pt")
        for key, value in alone.network.state_dict().items():
            torch.testing.assert_close(found["network"][key], value, rtol=0, atol=1e-12)
        for key, value in alone.best.items():
            torch.testing.assert_close(found["best"][key], value, rtol=0, atol=1e-12)
        for row, expected in zip(found["log"], alone.log, strict=True):
            assert row == pytest.approx(expected, abs=1e-6)
        for use, generator in alone.streams.items():
            assert torch.equal(found["streams"][use], generator.get_state())


@pytest.mark.parametrize("case", CASES)
def test_ranks_have_the_same_weights_to_the_bit(case, folder):
    first, second = (torch.load(folder / f"{case}-{rank}.pt")["network"] for rank in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_stage_trains_every_seed(folder):
    log = pd.read_csv(folder / "reports" / "digits" / "training" / "tla.csv")
    assert list(zip(log.seed, log.epoch, strict=True)) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    params = load_study(folder / "tla.yaml")
    for seed in params.seeds:
        load_model(folder / model_path(params, "tla", seed), params, "tla", seed)


# What cannot be shared

@pytest.mark.parametrize(("model", "changes", "key"), [
    ("kurakin", {"train.batch": 25}, "train.batch"),
    ("kurakin", {"train.batch": 26}, "train.batch"),
    ("at", {"model.architecture": "preact-resnet18", "model.widths": [8] * 4}, "architecture"),
    ("at", {"train.batch": 1}, "train.batch"),
    ("tla-b30", {"train.batch": 32}, None)])
def test_what_ranks_cannot_share_is_refused(model, changes, key, make_params, monkeypatch):
    params = make_params(changes)
    network = build(params.model, (1, 8, 8), 10, seed=0)
    monkeypatch.setattr(ranks, "size", lambda: 2)
    asked = parse_model(model, params)

    def part():
        return part_of(params, asked.method, asked.pool, network, params.train.batch)

    if key is None:
        assert part() == Part(0, 2, 32)
        return
    with pytest.raises(UserError, match=key):
        part()


@pytest.mark.parametrize(("n", "size"), [(24, 2), (25, 2), (25, 3), (3, 3)])
def test_parts_are_the_whole(n, size):
    rows = torch.arange(n)
    parts = [Part(rank, size, n).share(rows) for rank in range(size)]
    assert torch.equal(torch.cat(parts).sort().values, rows)
    means = [Part(rank, size, n).weigh(part.double().mean()) for rank, part in enumerate(parts)]
    assert sum(means) / size == pytest.approx((n - 1) / 2)


def test_ranks_that_have_done_different_numbers_of_epochs_stop(monkeypatch):
    done = torch.tensor([1, 1])
    monkeypatch.setattr(Part, "gather", lambda self, rows, n: done)
    Part(0, 2, 8).agree(1, torch.device("cpu"))
    done[1] = 2
    with pytest.raises(UserError, match="data/unfinished: is not the same for all processes"):
        Part(0, 2, 8).agree(1, torch.device("cpu"))


def main():
    """A rank: the stage, and every case; then one fails while the other waits for it."""
    with ranks.together():
        stage.main(["tla.yaml", "--model", "tla"])
        for case in CASES:
            torch.save(trained(case).state(), f"{case}-{ranks.rank()}.pt")
        if ranks.rank() == 1:
            raise UserError(FAILED)
        distributed.barrier()


if __name__ == "__main__":
    main()
