"""The commands that the pages name: they exist, and what they print fits on a screen."""

import re
import subprocess

import pytest
import yaml
from committed import ROOT, STUDIES

from show import screen
from tla.train.methods import load_study

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
    assert "Accuracy under attack: TLA" in text and "Masking" in text and "| TLA " in text
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
    assert {"push", "pull_request"} <= set(workflow[True])  # YAML reads the key `on` as true
    runs = {step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step}
    assert {"make test", "make gate"} <= runs
    assert {"test", "gate"} <= targets()


@pytest.fixture
def make(tmp_path):
    """Runs a target in an empty folder, where DVC does what a line of shell says."""
    place = tmp_path / "venv" / "bin"
    place.mkdir(parents=True)
    (tmp_path / "venv" / ".ready").touch()

    def run(target, dvc, *settings):
        (place / "dvc").write_text(f"#!/bin/sh\n{dvc}\n")
        (place / "dvc").chmod(0o755)
        command = ["make", "--no-print-directory", "-f", ROOT / "Makefile", "-o", "venv/.ready",
                   "VENV=venv", target]
        return subprocess.run([*command, *settings], cwd=tmp_path, capture_output=True, text=True)
    return run


@pytest.mark.parametrize(("dvc", "fresh"), [
    ("echo \"Stage 'train@at' didn't change, skipping\"", True),
    ("echo \"Running stage 'train@at':\"; echo '> python stages/train.py'", False),
    ("echo 'ERROR: No such file: prepared' >&2; exit 255", False)],
    ids=["unchanged", "would run", "would run and lacks its data"])
def test_the_gate_says_whether_results_are_of_this_code(make, dvc, fresh):
    done = make("gate", dvc)
    assert (done.returncode == 0) == fresh
    said = "Every result is that of this code" if fresh else "These results are not of this code"
    assert said in done.stdout


def test_diff_says_so_where_nothing_differs_and_fails_where_there_is_no_such_revision(make):
    assert make("diff", "true", "REV=v1").stdout == "No headline number differs from v1\n"
    assert make("diff", "echo tla 0.9 0.8", "REV=v1").stdout == "tla 0.9 0.8\n"
    done = make("diff", "echo 'ERROR: unknown Git revision' >&2; exit 255", "REV=nope")
    assert done.returncode and "No headline" not in done.stdout
