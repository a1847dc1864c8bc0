"""The other data sets: one graph for all, complete parameters, CIFAR-10 through it in small."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from test_pipeline import FEW, ROOT, run_all

import graph
from tla.params import UserError
from tla.report.tuning import read_trials
from tla.train.methods import label, load_study
from tla.train.models import build

EXPERIMENTS = sorted(path.parent for path in (ROOT / "experiments").glob("*/params.yaml"))
EXPERIMENTS.remove(ROOT / "experiments" / "summary")
GRAPHS = [folder for folder in (ROOT, *EXPERIMENTS) if (folder / "dvc.yaml").exists()]
SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32),
          "tiny-imagenet": (3, 64, 64)}
TOP = (ROOT / "dvc.yaml").read_text()
every_experiment = pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda folder: folder.name)
every_study = pytest.mark.parametrize("folder", [ROOT, *EXPERIMENTS], ids=lambda path: path.name)


# One graph for all

@pytest.mark.parametrize("folder", GRAPHS, ids=lambda folder: folder.name)
def test_every_graph_is_the_one_graph_with_the_models_of_its_study(folder):
    params = load_study(folder / "params.yaml")
    assert (folder / "dvc.yaml").read_text() == graph.graph_of(TOP, params)


def test_a_study_has_a_graph_where_it_has_results():
    """DVC would list the stages of another as missing, in every clone."""
    with_results = [folder for folder in (ROOT, *EXPERIMENTS) if (folder / "dvc.lock").exists()]
    assert with_results == GRAPHS


@every_study
def test_a_graph_differs_from_the_top_one_in_its_place_and_lists_alone(folder):
    params, ours = (load_study(each / "params.yaml") for each in (folder, ROOT))
    text = graph.graph_of(TOP, params)
    moved = graph.cached(graph.placed(text, ours), ours)
    found, top = (yaml.safe_load(each) for each in (moved, TOP))
    assert text.count(f"cmd: python stages/prepare.py {params.config}") == 1
    for stage, names in (("train", params.models), ("evaluate", params.models),
                         ("represent", params.represent.models),
                         ("vary", list(params.variants.trained))):
        (listed,) = found["stages"][stage].pop("matrix").values()
        top["stages"][stage].pop("matrix")
        assert listed == names
    for stage in ("transfer", "compare"):
        deps = found["stages"][stage].pop("deps")
        others = [dep for dep in top["stages"][stage].pop("deps") if not listing(dep)]
        assert [dep for dep in deps if not listing(dep)] == others
        expected = [f"data/digits/models/{name}" for name in params.models]
        if stage == "compare":
            expected = [f"data/digits/rows/{name}" for name in params.models]
            expected += [f"data/digits/embedding/{name}" for name in params.represent.models]
            expected += [f"data/digits/rows/variants/{name}" for name in params.variants.trained]
        assert [dep for dep in deps if listing(dep)] == expected
    assert found == top


@every_study
def test_weights_are_cached_where_the_parameters_say_so(folder):
    params = load_study(folder / "params.yaml")
    stages = yaml.safe_load(graph.graph_of(TOP, params))["stages"]
    weights = f"data/{params.dataset}/models/${{item.model}}"
    expected = weights if params.cache_models else {weights: {"cache": False}}
    assert stages["train"]["outs"][0] == expected
    for stage in ("evaluate", "represent"):
        assert weights in stages[stage]["deps"]


@every_study
def test_dvc_fills_in_nothing_but_names_of_the_lists(folder):
    """It would put other values into a shell, or delete the folders that they name, unchecked."""
    text = graph.graph_of(TOP, load_study(folder / "params.yaml"))
    filled_in = set(re.findall(r"\$\{.*?\}", text))
    assert filled_in == {"${item.model}", "${item.variant}"}


def test_a_study_in_the_folder_of_another_is_refused(tmp_path, monkeypatch):
    """A copy of a params.yaml that still says whose it was would write over that study."""
    shutil.copy(ROOT / "experiments" / "cifar10-fast" / "params.yaml", tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="^params.yaml: config: .*experiments/cifar10-fast/params"):
        graph.main(["params.yaml"])
    assert Path("dvc.yaml").read_text() == TOP


def listing(dep):
    """Whether a dependency is on what was made of one model."""
    folder, dot = dep.split("/")[-2], "." in dep.split("/")[-1]
    return folder in ("models", "rows", "embedding", "variants") and not dot


@every_study
def test_a_graph_does_not_depend_on_the_models_that_stood_there(folder):
    ours = load_study(ROOT / "params.yaml")
    theirs = load_study(folder / "params.yaml")
    once = graph.graph_of(TOP, theirs)
    assert graph.graph_of(once, theirs) == once
    assert graph.graph_of(once, ours) == graph.graph_of(TOP, ours)


def test_the_graph_is_written_beside_the_parameters_it_was_made_from(tmp_path, monkeypatch):
    source = ROOT / "experiments" / "cifar10-fast" / "params.yaml"
    study = tmp_path / "experiments" / "cifar10-fast"
    study.mkdir(parents=True)
    shutil.copy(source, study)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    graph.main(["experiments/cifar10-fast/params.yaml"])
    assert (study / "dvc.yaml").read_text() == graph.graph_of(TOP, load_study(source))
    assert Path("dvc.yaml").read_text() == TOP


def test_a_study_that_was_never_tuned_gets_a_table_of_no_trials(tmp_path, monkeypatch):
    """DVC stops where a dependency is missing. Trials that are there stay."""
    source, table = ROOT / "experiments" / "cifar10-fast" / "params.yaml", "reports/cifar10-fast"
    study = "experiments/cifar10-fast/params.yaml"
    (tmp_path / study).parent.mkdir(parents=True)
    shutil.copy(source, tmp_path / study)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    graph.main([study])
    assert read_trials(load_study(source)).empty
    assert Path(table, "tuning.csv").read_text().startswith("method,trial,settings,")
    Path(table, "tuning.csv").write_text("as it was")
    graph.main([study])
    assert Path(table, "tuning.csv").read_text() == "as it was"


# Parameters

@every_experiment
def test_parameters_are_complete_and_name_their_own_place(folder):
    params = load_study(folder / "params.yaml")
    assert params.dataset == folder.name
    assert (ROOT / params.config).samefile(folder / "params.yaml")
    assert (folder / params.root).resolve() == ROOT
    assert len({label(name, params) for name in params.models}) == len(params.models)


@every_study
def test_the_network_fits_the_images(folder):
    params = load_study(folder / "params.yaml")
    shape = SHAPES[params.data.source]
    network = build(params.model, shape, 10, seed=0).eval()
    logits, embedding = network(torch.rand(2, *shape))
    assert (logits.shape, embedding.shape) == ((2, 10), (2, params.model.widths[-1]))


@every_study
def test_tla_sa_and_its_pool_equal_tla_unless_it_is_tuned_itself(folder):
    plain = yaml.safe_load((folder / "params.yaml").read_text())
    switched = plain["methods"]["tla-sa"]
    assert switched.pop("mined_for") == "clean"
    if "tla-sa" not in plain["tune"]["space"]:
        assert switched.pop("mining_batch") == plain["mining"]["batch"]
        assert switched == plain["methods"]["tla"]


@every_study
def test_the_control_for_the_norm_term_has_its_weight_unless_it_is_tuned_itself(folder):
    """And in any case its terms: those of TLA's triplets."""
    params = load_study(folder / "params.yaml")
    norm, tla = params.methods["at-norm"], params.methods["tla"]
    if "at-norm" not in params.tune.space:
        assert norm.lambda2 == tla.lambda2 and norm.mining_batch == params.mining.batch
        assert norm.lr == tla.lr
    assert norm.twin == (tla.margin_twin is not None)
    assert norm.same_class == (tla.margin_class is not None)


# CIFAR-10 in small

TINY = {
    "root": ".", "config": "params.yaml", "seeds": [0, 1], "model.widths": [8, 8, 16, 16],
    "models": ["um", "at", "alp", "kurakin", "trades", "at-norm", "tla-sa", "tla-b1", "tla-b16",
               "tla"],
    "data.limit": {"train": 1000, "validation": 100, "test": 200}, "attack.steps": 2,
    "train.epochs": 1, "train.validate_every": 1, "mining.batch": 50,
    "methods.tla-sa.mining_batch": 50, "methods.at-norm.mining_batch": 50,
    "evaluate.seeds": {"autoattack": [1], "square": [1]},
    "evaluate.images": {"cw": 20, "autoattack": 6, "square": 8},
    "detect.components": 2, "represent.images": 50, "represent.iterations": 250,
    "compare.least": 1, "compare.resamples": 50}


def short(attack):
    """A gradient attack of few steps; others as they are."""
    if attack["kind"] != "gradient":
        return attack
    several = len(attack["steps"]) > 1
    return attack | {"steps": [2, 5] if several else [min(5, attack["steps"][-1])],
                     "restarts": min(2, attack["restarts"])}


def short_attacks(plain):
    """Every attack of a params.yaml in short, by dotted key."""
    changes = {}
    for section, key in (("train", "selection"), ("evaluate", "attacks"), ("tune", "attacks")):
        attacks = {name: short(attack) for name, attack in plain[section][key].items()}
        changes[f"{section}.{key}"] = attacks
    for section in ("neighbors", "represent", "transfer"):
        changes[f"{section}.attack"] = short(plain[section]["attack"])
    return changes | {f"{section}.steps": 5 for section in ("detect", "masking", "textbook")}


@pytest.mark.slow
def test_cifar10_runs_through_every_stage_in_small(tmp_path, monkeypatch):
    raw = ROOT / "data" / "raw"
    if not (raw / "cifar-10-batches-py").exists():
        pytest.skip("CIFAR-10 is not in data/raw")
    source = ROOT / "experiments" / "cifar10-fast" / "params.yaml"
    changes = TINY | short_attacks(yaml.safe_load(source.read_text())) | FEW
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data", "raw").symlink_to(raw)
    written = run_all(tmp_path, changes, source)
    assert "reports/cifar10-fast/REPORT.md" in written
    assert sum(name.endswith(".safetensors") for name in written) == 1 + 2 * len(TINY["models"])
