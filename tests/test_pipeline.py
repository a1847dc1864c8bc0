"""The graph says what the code does: dependencies, parameters, what reruns, and equal bytes twice."""

import ast
import hashlib
import importlib
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo

ROOT = Path(__file__).parents[1]
STAGES = ROOT / "stages"
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())
DEFINED = GRAPH["stages"]
CORE = STAGES / "tla" / "core"
# Stages about all models at once; they keep what they did for each, and none of them trains.
SUMMARIES = {"autoattack", "blackbox", "classic", "diagnose", "ood", "compare", "report"}
TRAINING = ("train@", "train-tla@")


def imports(path):
    """Files of the project that a file imports, and the names of everything else."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if (top := node.module.split(".")[0]) == "tla":
                place = STAGES.joinpath(*node.module.split("."))
                inside |= {place / f"{a.name}.py" for a in node.names} if place.is_dir() else {place.with_suffix(".py")}
            else:
                outside.add(top)
    return inside, outside


def closure(path):
    seen, outside, todo = set(), set(), {path}
    while todo:
        inside, others = imports(file := todo.pop())
        seen.add(file)
        outside |= others
        todo |= inside - seen
    return seen, outside


def template(stage):
    """The text of a stage's page, if it fills one: it lies beside the script, and DVC has to know it too."""
    return {path for path in [script(stage).with_suffix(".md")] if path.exists()}


def script(stage):
    return STAGES / re.search(r"stages/(\w+)\.py", DEFINED[stage]["cmd"])[0].removeprefix("stages/")


@pytest.mark.parametrize("stage", DEFINED)
def test_deps_name_exactly_the_code_a_stage_imports(stage):
    named = {ROOT / dep for dep in DEFINED[stage]["deps"] if dep.startswith("stages/")}
    needed = closure(script(stage))[0] - {STAGES / "tla" / "params.py"} | template(stage)   # the graph says why
    if CORE in named:
        assert any(file.parent == CORE for file in needed)
        needed = {file for file in needed if file.parent != CORE} | {CORE}
    assert named == needed


@pytest.mark.parametrize("stage", ["compare", "report"])
def test_report_code_imports_no_torch(stage):
    assert "torch" not in closure(script(stage))[1]


@pytest.mark.parametrize("stage", DEFINED)
def test_a_stage_lists_the_sections_it_reads(stage):
    listed = {key.split(".")[0] for entry in DEFINED[stage]["params"] for keys in entry.values() for key in keys}
    files = [file for file in closure(script(stage))[0] if file.name not in ("params.py", "checkpoints.py")]
    read = {name for file in {*files, *template(stage)} for name in re.findall(r"\bparams\.(\w+)", file.read_text())}
    assert read - {"config", "root", "yaml"} <= listed     # where the file lies, not what is in it


@pytest.mark.parametrize(("name", "plot"), [item for entry in GRAPH["plots"] for item in entry.items()])
def test_plots_draw_columns_that_the_report_writes(name, plot):
    (file, column), = plot["y"].items()
    file = file.replace("${root}", ".").replace("${dataset}", "digits")
    assert file.replace("./reports/digits", "reports/${dataset}") in {next(iter(o)) for o in DEFINED["report"]["outs"]}
    template = (ROOT / ".dvc" / "plots" / f"{plot['template']}.json").read_text()
    needed = {plot["x"], column, *re.findall(r'"field": "([a-z]+)"', template)} - {"rev", "pool"}
    assert needed <= set(pd.read_csv(ROOT / file))
    assert '"strokeDash": {"field": "rev"' in template and "<DVC_METRIC_DATA>" in template


def test_every_section_of_the_parameters_is_read_by_some_stage():
    listed = {key.split(".")[0] for s in DEFINED.values() for e in s["params"] for keys in e.values() for key in keys}
    sections = set(yaml.safe_load((ROOT / "params.yaml").read_text())) - {"root", "config", "tune"}
    assert sections == listed


def test_only_tla_stages_depend_on_mining():
    listed = {stage for stage, s in DEFINED.items() for e in s["params"] for keys in e.values() if "mining" in keys}
    assert listed == SUMMARIES


def edited(changes, source=ROOT / "params.yaml"):
    """The content of a params.yaml with dotted keys set to other values."""
    plain = yaml.safe_load(source.read_text())
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = plain
        for part in sections:
            section = section[part]
        assert name in section
        section[name] = value
    return plain


def resolved(folder, changes, source=ROOT / "params.yaml"):
    """Stages as DVC resolves them under changed parameters: name -> (cmd, inputs, parameter values, outputs)."""
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(edited(changes, source)))
    repo = Repo.init(str(folder), no_scm=True)
    stages = {}
    for stage in repo.index.stages:
        values = [d.read_params() for d in stage.deps if isinstance(d, ParamsDependency)]
        inputs = frozenset(str(d) for d in stage.deps if not isinstance(d, ParamsDependency))
        stages[stage.addressing] = stage.cmd, inputs, values, frozenset(map(str, stage.outs))
    return {name.split(":")[-1]: stage for name, stage in stages.items()}


@pytest.fixture(scope="module")
def today(tmp_path_factory):
    return resolved(tmp_path_factory.mktemp("graph") / "today", {})


def rerun(today, then):
    """Stages that differ from today's or read what such a stage writes."""
    stale = {name for name, stage in then.items() if today.get(name) != stage}
    while more := {name for name, stage in then.items() if name not in stale and any(
            stage[1] & then[other][3] for other in stale)}:
        stale |= more
    return stale


def trained(stages):
    return {name for name in stages if name.startswith(TRAINING)}


def test_a_new_pool_trains_one_model_and_reevaluates_only_it(today, tmp_path):
    stale = rerun(today, resolved(tmp_path / "x", {"mining.batch": 256}))
    assert stale == {"train-tla@256", "evaluate@tla-b256", "detect@tla-b256", "neighbors@tla-b256",
                     "represent@tla-b256", *SUMMARIES}


def test_a_pool_already_swept_trains_nothing(today, tmp_path):
    swept = next(b for b in edited({})["ablation"]["batches"] if b not in (1, edited({})["mining"]["batch"]))
    stale = rerun(today, resolved(tmp_path / "x", {"mining.batch": swept}))
    assert not trained(stale)
    assert not {name for name in stale if name.startswith("evaluate@")}


def test_another_alp_weight_retrains_only_alp(today, tmp_path):
    stale = rerun(today, resolved(tmp_path / "x", {"methods.alp.weight": 0.123}))
    assert stale == {"train@alp", "evaluate@alp", "detect@alp", "neighbors@alp", *SUMMARIES}


def test_another_learning_rate_retrains_every_model(today, tmp_path):
    assert trained(rerun(today, resolved(tmp_path / "x", {"train.lr": 0.123}))) == trained(today)


def test_the_default_pool_is_trained_once(today):
    batches = edited({})["ablation"]["batches"] + [edited({})["mining"]["batch"]]
    assert sorted(s for s in today if s.startswith("train-tla@")) == sorted(f"train-tla@{b}" for b in set(batches))


TINY = {
    "seeds": [0, 1],
    "data.limit.train": 48, "data.limit.validation": 32, "data.limit.test": 40,
    "train.epochs": 2, "train.validate_every": 1, "mining.batch": 16,
    "methods.tla-sa.mining_batch": 16, "ablation.batches": [1, 2, 4, 8, 16], "detect.components": 2,
    "represent.images": 20, "represent.iterations": 250, "compare.least": 1, "compare.resamples": 50,
    "evaluate.attacks.pgd.steps": [2, 4], "evaluate.attacks.pgd-restarts.restarts": 2,
    "evaluate.capped": {"cw": 20}, "evaluate.full": ["at"]}
FEW = {"autoattack.images": 6, "blackbox.images": 6, "blackbox.queries": 20,
       "blackbox.hop_skip": {"images": 3, "iterations": 1, "evaluations": 20, "initial_evaluations": 10},
       "classic.images": 6, "classic.leaking_images": 10, "classic.halvings": 3, "classic.l2_steps": 5,
       "masking.images": 6, "masking.points": 3, "ood.images": 10}


def run_all(folder, changes, source=ROOT / "params.yaml"):
    """Every stage of a study in the order of the graph, in this process; digest of all it wrote."""
    stages, done = resolved(folder, changes, source), set()
    Path("reports").mkdir()
    shutil.copy(ROOT / "reports" / "published.csv", "reports")
    while waiting := [name for name in stages if name not in done]:
        name = next(n for n in waiting if not any(stages[n][1] & stages[o][3] for o in waiting))
        _, path, *arguments = stages[name][0].split()
        importlib.import_module(Path(path).stem).main(arguments)
        done.add(name)
    files = [f for f in [*Path("data").rglob("*"), *Path("reports").rglob("*")] if "unfinished" not in f.parts]
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}


def test_the_whole_study_in_small_gives_the_same_bytes_twice(tmp_path, monkeypatch):
    digests = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        digests.append(run_all(folder, TINY | FEW))
    assert len(digests[0]) > 80
    assert {name for name in digests[0] if digests[0][name] != digests[1].get(name)} == set()
