"""The other data sets: one graph for all, complete parameters, and CIFAR-10 through every stage in small."""

from pathlib import Path

import pytest
import torch
import yaml
from test_pipeline import FEW, ROOT, run_all

from tla.core.models import build
from tla.params import load_params, parse_model

EXPERIMENTS = sorted(path.parent for path in (ROOT / "experiments").glob("*/params.yaml"))
EXPERIMENTS.remove(ROOT / "experiments" / "summary")
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "tiny-imagenet": (3, 64, 64)}


def test_every_pipeline_is_a_copy_of_the_one_graph():
    copies = [path for path in (ROOT / "experiments").glob("*/dvc.yaml") if path.parent.name != "summary"]
    assert {copy.parent.name for copy in copies} == {"mnist-fast", "mnist-paper", "cifar10-fast", "cifar10-paper"}
    assert {copy.read_bytes() for copy in copies} == {(ROOT / "dvc.yaml").read_bytes()}


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda folder: folder.name)
def test_parameters_are_complete_and_name_their_own_place(folder):
    params = load_params(folder / "params.yaml")
    assert params.dataset == folder.name
    assert (ROOT / params.config).samefile(folder / "params.yaml")
    assert (folder / params.root).resolve() == ROOT
    assert all(str(parse_model(name, params)) == name for name in params.evaluate.full)


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda folder: folder.name)
def test_the_network_fits_the_images(folder):
    params = load_params(folder / "params.yaml")
    network = build(params.model, SHAPES[params.data.source], 10, seed=0).eval()
    logits, embedding = network(torch.rand(2, *SHAPES[params.data.source]))
    assert (logits.shape, embedding.shape) == ((2, 10), (2, params.model.widths[-1]))


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda folder: folder.name)
def test_tla_sa_and_its_pool_equal_tla(folder):
    plain = yaml.safe_load((folder / "params.yaml").read_text())
    switched = plain["methods"]["tla-sa"]
    assert switched.pop("mining_batch") == plain["mining"]["batch"]
    assert switched == plain["methods"]["tla"]


TINY = {
    "root": ".", "config": "params.yaml", "seeds": [0, 1], "model.widths": [8, 8, 16, 16],
    "data.limit": {"train": 1000, "validation": 100, "test": 200}, "attack.steps": 2,
    "train.epochs": 1, "train.validate_every": 1, "mining.batch": 50, "methods.tla-sa.mining_batch": 50,
    "ablation.batches": [1, 2, 4, 8, 16], "evaluate.capped": {}, "evaluate.full": [],
    "detect.components": 2, "represent.images": 50, "represent.iterations": 250, "compare.resamples": 50}


def short(attack):
    return attack | {"steps": [2, 5] if len(attack["steps"]) > 1 else [min(5, attack["steps"][-1])],
                     "restarts": min(2, attack["restarts"])}


@pytest.mark.slow
def test_cifar10_runs_through_every_stage_in_small(tmp_path, monkeypatch):
    raw = ROOT / "data" / "raw"
    if not (raw / "cifar-10-batches-py").exists():
        pytest.skip("CIFAR-10 is not in data/raw")
    source = ROOT / "experiments" / "cifar10-fast" / "params.yaml"
    plain = yaml.safe_load(source.read_text())
    changes = TINY | {
        f"{section}.{key}": {name: short(attack) for name, attack in plain[section][key].items()}
        for section, key in (("train", "selection"), ("evaluate", "attacks"), ("tune", "attacks"))}
    changes |= {f"{section}.{key}": short(plain[section][key]) for section, key in (
        ("neighbors", "attack"), ("represent", "attack"), ("blackbox", "transfer"))}
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data", "raw").symlink_to(raw)
    written = run_all(tmp_path, changes | FEW | {"detect.steps": 5, "masking.steps": 5}, source)
    assert "reports/cifar10-fast/REPORT.md" in written
    assert sum(name.endswith(".safetensors") for name in written) == 1 + 2 * 13
