"""The commands that the pages name: they exist, and what they print fits on a screen."""

import re
from pathlib import Path

import pytest
import yaml

from show import screen
from tla.train.methods import load_study

ROOT = Path(__file__).parents[1]
STUDIES = ("params.yaml", "experiments/mnist-fast/params.yaml")
GRAPHS = sorted(path.relative_to(ROOT) for path in (
    ROOT / "dvc.yaml", *(ROOT / "experiments").glob("*/dvc.yaml")))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]


def targets():
    """What make knows, the studies among it."""
    text = (ROOT / "Makefile").read_text()
    studies = re.search(r"^EXPERIMENTS = (.*)$", text, re.MULTILINE)[1].split()
    return {*re.findall(r"^([a-z-]+):", text, re.MULTILINE), *studies}


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_fits_on_a_screen(study, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = screen(load_study(study))
    assert len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 100
    assert "TLA − AT" in text and "Masking" in text and "| TLA " in text
    assert not re.search(r"\*\*|^>", text, re.MULTILINE), "marks of Markdown"


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
def test_dvc_stage_list_says_in_a_line_of_80_what_every_stage_makes(graph):
    for name, stage in yaml.safe_load((ROOT / graph).read_text())["stages"].items():
        assert 10 < len(stage["desc"]) <= 60, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_command_of_a_page_is_a_target(page):
    for line in re.findall(r"`([^`\n]+)`|^(make [^#\n]+)", page.read_text(), re.MULTILINE):
        for name in re.findall(r"\bmake ([a-z][a-z0-9-]*)", "".join(line)):
            assert name in targets(), f"{page.name}: make {name}"


def test_the_workflow_runs_targets_of_make_on_push_and_pull_request():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert workflow[True] == ["push", "pull_request"]       # YAML reads the key `on` as true
    runs = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    assert runs == ["make test", "make gate"]
    assert {run.removeprefix("make ") for run in runs} <= targets()
