"""The house and the graph: floors, dependencies, parameters, what reruns, and equal bytes twice."""

import ast
import hashlib
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo

import graph
import resolve
from tla.params import load_params

ROOT = Path(__file__).parents[1]
STAGES = ROOT / "stages"
LIBRARY = STAGES / "tla"
FLOORS = ("train", "measure", "report")         # imports run from a later one to an earlier one
# Decide no result: values are checked and named, work is handed out.
NEUTRAL = {LIBRARY / name for name in (
    "__init__.py", "params.py", "command.py", "guard.py", "parent.py", "workers.py", "sources.py")}
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())
DEFINED = GRAPH["stages"]
SUMMARIES = {"transfer", "compare", "report"}   # about several models at once


def module_file(name):
    """The file of a dotted name of the library, or None."""
    place = STAGES.joinpath(*name.split("."))
    if place.with_suffix(".py").exists():
        return place.with_suffix(".py")
    return place / "__init__.py" if (place / "__init__.py").exists() else None


def imports(path):
    """Files of the project that a file imports, and the top-level names of everything else."""
    inside, outside, tree = set(), set(), ast.parse(path.read_text())
    # A method imports what it computes with when it is called: only training calls it.
    for node in tree.body if path.parent.name == "methods" else ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if not name.startswith("tla"):
                outside.add(name.split(".")[0])
            elif file := module_file(name):
                inside.add(file)
    if path == LIBRARY / "train" / "methods" / "__init__.py":   # it lists its folder
        inside |= set(path.parent.glob("*.py"))
    return inside, outside


def closure(path):
    """Every file of the project that a file needs, itself among them."""
    seen, todo = set(), {path}
    while todo:
        file = todo.pop()
        seen.add(file)
        todo |= imports(file)[0] - seen
    return seen


def floor(path):
    """The floor that a file lies on, or None for those beside the floors."""
    parts = path.relative_to(LIBRARY).parts if path.is_relative_to(LIBRARY) else ("", "")
    return parts[0] if parts[0] in FLOORS else None


def script(stage):
    return STAGES / re.search(r"stages/(\w+)\.py", DEFINED[stage]["cmd"])[0].removeprefix("stages/")


def code_named(stage):
    """The dependencies of a stage that lie under stages/."""
    return {ROOT / dep for dep in DEFINED[stage]["deps"] if dep.startswith("stages/")}


LIBRARY_FILES = sorted(path for path in LIBRARY.rglob("*.py") if floor(path))


@pytest.mark.parametrize("path", LIBRARY_FILES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_run_down_only(path):
    above = FLOORS[: FLOORS.index(floor(path)) + 1]
    for imported in imports(path)[0]:
        assert floor(imported) in (None, *above), f"{path} imports {imported}"


@pytest.mark.parametrize("path", sorted((LIBRARY / "train").rglob("*.py")),
                         ids=lambda path: path.name)
def test_nothing_of_a_command_line_or_a_page_lies_under_train(path):
    assert imports(path)[1].isdisjoint({"argparse", "tqdm", "matplotlib", "jinja2", "pandas"})


@pytest.mark.parametrize("stage", DEFINED)
def test_a_stage_names_its_script_and_the_one_folder_that_it_imports(stage):
    """The lowest floor is named; what the ones above decide reaches it through files."""
    named, needed = code_named(stage), closure(script(stage))
    folders = {path for path in named if path.is_dir()}
    assert len(folders) <= 1 and script(stage) in named
    floors = {floor(path) for path in needed} - {None}
    lowest = max(floors, key=FLOORS.index)
    for path in named - folders - {script(stage)}:
        assert path in needed or path.suffix in (".md", ".html"), f"{path} is not imported"
    covered = {path for path in named if path.is_file()}
    if stage == "train":    # what `resolve` writes for a model holds a checksum of its code
        assert "reports/digits/parameters/${item.model}.json" in DEFINED["train"]["deps"]
        assert "stages/tla/train" in DEFINED["resolve"]["deps"]
        covered |= set((LIBRARY / "train").rglob("*.py"))
    for folder in folders:
        assert folder.relative_to(LIBRARY).parts[0] == lowest
        covered |= set(folder.rglob("*.py"))
    for path in needed - covered - NEUTRAL:
        earlier = FLOORS.index(floor(path)) < FLOORS.index(lowest) if floor(path) else False
        shared = path.parent == LIBRARY and lowest == "train"      # their weights hold no text
        methods = path.is_relative_to(LIBRARY / "train" / "methods")
        assert earlier or shared or methods, f"{stage} imports {path} and does not name it"


@pytest.mark.parametrize("stage", ["compare", "report"])
def test_report_code_imports_no_torch(stage):
    """Not even through what it imports: torch takes two seconds of every process."""
    code = f"import sys; import {stage}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=STAGES, check=True)


def test_no_two_files_have_one_name():
    names = [path.name for path in STAGES.rglob("*.py") if path.name != "__init__.py"]
    assert sorted(set(names)) == sorted(names)


def settings_of(stage):
    """The parameters that decide a stage: in the file that `resolve` writes for it, or listed."""
    if stage in resolve.MEASUREMENTS:
        assert f"reports/digits/settings/{stage}.json" in DEFINED[stage]["deps"]
        assert "params" not in DEFINED[stage]
        return resolve.MEASUREMENTS[stage]
    return [key for entry in DEFINED[stage]["params"] for keys in entry.values() for key in keys]


@pytest.mark.parametrize("stage", sorted(set(DEFINED) - {"prepare", "resolve", "train", "vary"}))
def test_a_stage_lists_the_sections_it_reads(stage):
    listed = {key.split(".")[0] for key in settings_of(stage)}
    sections = set(yaml.safe_load((ROOT / "params.yaml").read_text()))
    # Shared code reads what other stages need; a stage must list what its own script reads.
    own = set(re.findall(r"\bparams\.(\w+)", script(stage).read_text())) & sections
    assert own - {"config", "root", "tune"} <= listed
    assert listed <= sections


@pytest.mark.parametrize("stage", ["compare", "report"])
def test_a_report_lists_the_sections_that_its_library_and_templates_read(stage):
    listed, read = {key.split(".")[0] for key in settings_of(stage)}, set()
    files = [file for file in closure(script(stage)) if floor(file) in (None, "report")]
    templates = [path for path in code_named(stage) if path.suffix == ".md"]
    for file in {*files, *templates} - NEUTRAL:
        read |= set(re.findall(r"\bparams\.(\w+)", file.read_text()))
    sections = set(yaml.safe_load((ROOT / "params.yaml").read_text()))
    reached = {"model", "train"}    # a change of these changes rows and logs
    assert (read & sections) - {"config", "root", "tune"} - listed <= reached


def test_every_section_of_the_parameters_is_read_by_some_stage():
    listed = {key.split(".")[0] for stage in DEFINED.values() for entry in stage.get("params", [])
              for keys in entry.values() for key in keys}
    sections = set(yaml.safe_load((ROOT / "params.yaml").read_text()))
    assert sections - {"root", "config", "tune", "cache_models"} == listed    # these are no stage's


def test_the_graph_is_short():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) < 300


PLOTS = [item for entry in GRAPH["plots"] for item in entry.items()]


@pytest.mark.parametrize(("name", "plot"), PLOTS)
def test_plots_draw_columns_that_the_report_writes(name, plot):
    (file, column), = plot["y"].items()
    template = (ROOT / ".dvc" / "plots" / f"{plot['template']}.json").read_text()
    needed = {plot["x"], column, *re.findall(r'"field": "([a-z]+)"', template)} - {"rev", "pool"}
    assert needed <= set(pd.read_csv(ROOT / file))
    assert '"strokeDash": {"field": "rev"' in template and "<DVC_METRIC_DATA>" in template


def test_plots_need_no_network():
    page = (ROOT / ".dvc" / "plots" / "page.html").read_text()
    assert "plots/page.html" in (ROOT / ".dvc" / "config").read_text()
    assert "{plot_divs}" in page and not re.search(r"<(script|link)[^>]+(src|href)=", page)


# What reruns

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
    """Stages as DVC resolves them: name -> (cmd, inputs, parameter values, outputs)."""
    folder.mkdir(exist_ok=True)
    plain = edited(changes, source)
    (folder / "params.yaml").write_text(yaml.safe_dump(plain))
    params = load_params(folder / "params.yaml")
    (folder / "dvc.yaml").write_text(graph.graph_of((ROOT / "dvc.yaml").read_text(), params))
    stages = {}
    for stage in Repo.init(str(folder), no_scm=True).index.stages:
        values = [d.read_params() for d in stage.deps if isinstance(d, ParamsDependency)]
        inputs = frozenset(str(d) for d in stage.deps if not isinstance(d, ParamsDependency))
        outputs = frozenset(map(str, stage.outs))
        stages[stage.addressing.split(":")[-1]] = stage.cmd, inputs, values, outputs
    return stages


def under(changes, folder):
    """The stages under changed parameters, `resolve` run: of its files the values are compared."""
    stages = resolved(folder, changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        resolve.main(["params.yaml"])
    for name, (cmd, inputs, values, outputs) in stages.items():
        written = [i for i in inputs if "/parameters/" in i or "/settings/" in i]
        values = [*values, *((folder / file).read_text() for file in written)]
        stages[name] = cmd, frozenset(inputs.difference(written)), values, outputs
    return stages


@pytest.fixture(scope="module")
def today(tmp_path_factory):
    return under({}, tmp_path_factory.mktemp("graph"))


def reads(inputs, outputs):
    """Whether an input is an output, or lies in one, or holds one."""
    return any(a == b or a.startswith(f"{b}/") or b.startswith(f"{a}/")
               for a in inputs for b in outputs)


def rerun(today, then):
    """Stages that differ from today's or read what such a stage writes."""
    stale = {name for name, stage in then.items() if today.get(name) != stage}
    while True:
        more = {name for name in then.keys() - stale
                if any(reads(then[name][1], then[other][3]) for other in stale)}
        if not more:
            return stale
        stale |= more


VARIANTS = {
    "attacks": {"pgd": 40, "pgd-restarts": 20},
    "trained": {
        "small": {"models": ["at", "alp", "tla"], "seeds": [0, 1],
                  "changes": {"model.widths": [12, 8]}},
        "study": {"models": ["at", "alp", "tla"], "seeds": [0, 1], "changes": {}},
        "smoothed": {"models": ["tla"], "seeds": [0, 1],
                     "changes": {"train.label_smoothing": 0.1}}},
    "scale": {"outcome": "pgd_4_last", "series": {"width": ["small", "study"]}, "authors": None},
    "gain": {"mlp": {
        "equal": {"says": "equal", "source": "ours: so", "tla": "study", "at": "study",
                  "outcome": "pgd_4_last"},
        "alone": [{"says": "smoothing", "source": "theirs", "tla": "smoothed", "at": "study",
                   "outcome": "pgd_4_last"}],
        "together": [{"says": "all", "source": "theirs", "tla": "smoothed", "at": "study",
                      "outcome": "pgd-restarts_last"}]}}}
VARIED = {f"variants.{key}": value for key, value in VARIANTS.items()}
STEPS = {"evaluate.attacks.pgd.steps": [2, 4]}      # that these outcomes are of


def about(*models):
    return {f"{stage}@{model}" for stage in ("train", "evaluate") for model in models}


def test_a_new_pool_trains_and_measures_one_model(today, tmp_path):
    stale = rerun(today, under({"mining.batch": 256}, tmp_path / "x"))
    assert stale == about("tla") | {"resolve", "represent@tla", *SUMMARIES}


def test_another_alp_weight_retrains_only_alp(today, tmp_path):
    stale = rerun(today, under({"methods.alp.weight": 0.123}, tmp_path / "x"))
    assert stale == about("alp") | {"resolve", "represent@alp", *SUMMARIES}


def test_a_weight_of_tla_retrains_every_pool(today, tmp_path):
    stale = rerun(today, under({"methods.tla.lambda1": 0.123}, tmp_path / "x"))
    assert stale == about("tla", "tla-b1", "tla-b30", "tla-b100", "tla-b1000") | {
        "resolve", "represent@tla", *SUMMARIES}


def test_another_optimiser_retrains_every_model(today, tmp_path):
    stale = rerun(today, under({"train.optimizer": "sgd"}, tmp_path / "x"))
    assert stale == set(today) - {"prepare"}


def test_hyper_parameter_trials_are_drawn_anew_and_train_nothing(today, tmp_path):
    """The report depends on their table, which lies in git wherever there is a graph."""
    assert "reports/digits/tuning.csv" in DEFINED["report"]["deps"]
    assert rerun(today, under({"tune.seeds": [0]}, tmp_path / "x")) == set()


def test_another_attack_trains_nothing(today, tmp_path):
    changed = under({"evaluate.attacks.mim.steps": [41]}, tmp_path / "x")
    assert not [name for name in rerun(today, changed) if name.startswith("train@")]


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """The stages of a study with variants."""
    return under(VARIED | STEPS, tmp_path_factory.mktemp("varied"))


def test_a_changed_variant_is_made_again_alone(varied, tmp_path):
    changes = {**VARIANTS["trained"], "small": VARIANTS["trained"]["small"] | {"seeds": [0]}}
    other = VARIED | STEPS | {"variants.trained": changes, "variants.scale": None}
    stale = rerun(varied, under(other, tmp_path / "x"))
    assert stale == {"resolve", "vary@small", "compare", "report"}


def test_variants_hang_on_what_their_own_models_are_trained_with(varied, tmp_path):
    """`smoothed` has no ALP, and no other model of a variant is an MMA."""
    stale = rerun(varied, under(VARIED | STEPS | {"methods.alp.weight": 0.123}, tmp_path / "x"))
    assert {name for name in stale if "vary" in name} == {"vary@small", "vary@study"}
    stale = rerun(varied, under(VARIED | STEPS | {"methods.mma.d_max": 0.26}, tmp_path / "y"))
    assert not [name for name in stale if "vary" in name]


def test_an_attack_of_variants_is_made_on_all_of_them_and_on_no_model(varied, tmp_path):
    attacks = VARIANTS["attacks"] | {"mim": 20}
    stale = rerun(varied, under(VARIED | STEPS | {"variants.attacks": attacks}, tmp_path / "x"))
    assert stale == {"resolve", "compare", "report",
                     *(f"vary@{name}" for name in VARIANTS["trained"])}


def test_an_attack_of_the_suite_alone_leaves_variants_as_they_are(varied, tmp_path):
    changed = VARIED | STEPS | {"evaluate.attacks.mim.steps": [41]}
    assert not [name for name in rerun(varied, under(changed, tmp_path / "x")) if "vary" in name]


def test_the_default_has_at_most_46_stages(today):
    assert len(today) <= 46


# The whole study in small

TINY = {
    "seeds": [0, 1], "data.limit": {"train": 48, "validation": 32, "test": 40},
    "train.epochs": 2, "train.validate_every": 1, "mining.batch": 16,
    "methods.tla-sa.mining_batch": 16, "methods.at-norm.mining_batch": 16,
    "models": ["um", "at", "alp", "kurakin", "trades", "mma", "vib", "at-norm", "tla-sa", "tla-b1",
               "tla-b4", "tla-b8", "tla"],
    "detect.components": 2, "represent.images": 20, "represent.iterations": 250,
    "compare.least": 1, "compare.resamples": 50, "evaluate.attacks.pgd.steps": [2, 4],
    "evaluate.attacks.pgd-restarts.restarts": 2, "evaluate.seeds.autoattack": [1],
    "evaluate.images": {"cw": 20, "autoattack": 6, "square": 8}} | VARIED
FEW = {"evaluate.attacks.square.queries": 20, "textbook.images": 6, "textbook.leaking_images": 10,
       "textbook.halvings": 3, "textbook.l2_steps": 5, "masking.images": 6, "masking.points": 3,
       "hop_skip": {"images": 3, "iterations": 1, "evaluations": 20, "initial_evaluations": 10},
       "transfer.images": 6, "ood.images": 10}


def run_all(folder, changes, source=ROOT / "params.yaml"):
    """Every stage of a study in the order of the graph, in this process; digest of all it wrote."""
    stages, done = resolved(folder, changes, source), set()
    Path("reports").mkdir()
    shutil.copy(ROOT / "reports" / "published.csv", "reports")
    shutil.copytree(ROOT / "experiments" / "summary", Path("experiments", "summary"))
    while waiting := [name for name in stages if name not in done]:
        name = next(n for n in waiting
                    if not any(reads(stages[n][1], stages[o][3]) for o in waiting if o != n))
        _, path, *arguments = stages[name][0].split()
        importlib.import_module(Path(path).stem).main(arguments)
        done.add(name)
    files = [*Path("data").rglob("*"), *Path("reports").rglob("*")]
    kept = {"unfinished", "kept"}       # what later runs may use again, not results
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files
            if f.is_file() and kept.isdisjoint(f.parts)}


def test_the_whole_study_in_small_gives_the_same_bytes_twice(tmp_path, monkeypatch):
    digests = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        digests.append(run_all(folder, TINY | FEW))
    assert len(digests[0]) > 80
    assert {name for name in digests[0] if digests[0][name] != digests[1].get(name)} == set()


TOY = '''"""Toy: adversarial training with half the loss."""

from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Positive, Weight

LABEL = "Toy"
BASELINES = ("at",)
MINES = False


@dataclass(frozen=True, config=CHECKED)
class Parameters:
    """Learning rate and weight of the loss."""

    lr: Positive
    weight: Weight


def images(adversary, x, y):
    """PGD images."""
    return adversary.pgd(x, y)


def loss(model, batch, parameters):
    """Weighted cross-entropy on adversarial images."""
    return parameters.weight * batch.cross_entropy(model(batch.x_adv)[0]), {}
'''


def test_a_method_is_a_file_a_section_and_a_name(tmp_path):
    """The recipe of docs/extending.md, in a copy: from training to the report."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("stages", "tests", "experiments", ".dvc"):
        shutil.copytree(ROOT / name, copy / name,
                        ignore=shutil.ignore_patterns("tmp", "cache", "__pycache__", "*.pyc"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, copy)
    (copy / "reports").mkdir()
    shutil.copy(ROOT / "reports" / "published.csv", copy / "reports")
    (copy / "stages" / "tla" / "train" / "methods" / "toy.py").write_text(TOY)
    names = ["um", "at", "alp", "tla-b1", "tla-b8", "tla", "toy"]
    plain = edited(TINY | FEW | {"models": names, "represent.models": ["um", "at", "alp", "tla"]})
    plain["methods"]["toy"] = {"lr": 0.01, "weight": 0.5}
    (copy / "params.yaml").write_text(yaml.safe_dump(plain))
    code = ("from pathlib import Path; import test_pipeline as t; "
            "here = Path('run'); here.mkdir(); import os; os.chdir(here); "
            "t.run_all(Path('.').resolve(), {})")
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True, capture_output=True,
                   env={"PYTHONPATH": f"{copy / 'tests'}:{copy / 'stages'}", "PATH": "/usr/bin"})
    report = (copy / "run" / "reports" / "digits" / "REPORT.md").read_text()
    assert re.search(r"\| Toy +\|", report) and "Toy − AT" in report
