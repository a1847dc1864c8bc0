"""Command lines that are refused: of every script, in one line, with nothing read or written."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PARAMS
from refusals import refusal, tree

import away
import claims
import compare
import evaluate
import graph
import page
import prepare
import readme
import remote
import report
import represent
import resolve
import score
import show
import train
import transfer
import tune
import vary
from tla.measure.external import FORMS

STAGES = PARAMS.parent / "stages"
STUDY = {"compare": compare.main, "prepare": prepare.main, "report": report.main,
         "resolve": resolve.main, "show": show.main, "transfer": transfer.main, "tune": tune.main,
         "claims": claims.main, "page": page.main, "graph": graph.main}
MODEL = {"train": train.main, "evaluate": evaluate.main, "represent": represent.main}
RUN = ["run", "params.yaml", "in", "--out", "out"]
TAKEN = "is not among them; choose one of um, at, alp, "
AGAIN = "run dvc repro, which makes it again"


@pytest.fixture(autouse=True)
def studies(tmp_path, monkeypatch):
    """The files of parameters and nothing else, but an empty folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(PARAMS, "params.yaml")
    shutil.copytree(PARAMS.parent / "experiments", "experiments")
    Path("in").mkdir()


@pytest.mark.parametrize("name", STUDY)
@pytest.mark.parametrize(("arguments", "words"), [
    ([], "the following arguments are required: config"),
    (["params.yaml", "--nope"], "unrecognized arguments: --nope; --help says more"),
    (["nope.yaml"], "^nope.yaml: no such file; name a params.yaml$"),
    (["in"], "^in: no such file; name a params.yaml$")], ids=str)
def test_a_script_of_a_study_wants_its_parameters(name, arguments, words):
    assert re.search(words, refusal(STUDY[name], *arguments))


@pytest.mark.parametrize("name", MODEL)
@pytest.mark.parametrize(("arguments", "words"), [
    ([], "the following arguments are required: config, --model"),
    (["params.yaml"], "the following arguments are required: --model"),
    (["params.yaml", "--model"], "--model: expected one argument"),
    (["params.yaml", "--model", ""], f"models: '' {TAKEN}"),
    (["params.yaml", "--model", "nope"], f"models: 'nope' {TAKEN}"),
    (["params.yaml", "--model", "tla-b7"], f"models: 'tla-b7' {TAKEN}"),
    (["params.yaml", "--model", "../um"], f"models: '../um' {TAKEN}"),
    (["params.yaml", "--model", "um\nx"], rf"models: 'um\\nx' {TAKEN}"),
    (["params.yaml", "--model", "u" * 10**4], "models: 'u{500}"),
    (["nope", "--model", "um"], "^nope: no such file"),
    (["params.yaml", "--model", "um"], "images.safetensors: no such file; run dvc repro prepare$")],
    ids=lambda value: " ".join(value)[-20:] if isinstance(value, list) else "")
def test_a_script_of_a_model_wants_one_of_the_study(name, arguments, words):
    assert re.search(words, refusal(MODEL[name], *arguments))


OTHERS = {
    "vary without a variant": (vary.main, ["params.yaml"], "are required: --variant"),
    "another variant": (vary.main, ["params.yaml", "--variant", "x"], "'x' is not among them"),
    "a method that is not tuned": (tune.main, ["params.yaml", "--method", "at-norm"],
                                   "'at-norm' has none, or is not among models; choose one of at"),
    "tune without images": (tune.main, ["params.yaml"], "no such file; run dvc repro prepare"),
    "compare without rows": (compare.main, ["params.yaml"], f"suite.csv.gz: .*{AGAIN}"),
    "report without tables": (report.main, ["params.yaml"], f"accuracy.csv: .*{AGAIN}"),
    "show without tables": (show.main, ["params.yaml"], f"differences.csv: .*{AGAIN}"),
    "claims of a study": (claims.main, ["params.yaml"], "params.yaml: config: input should be"),
    "a study of claims": (prepare.main, ["experiments/summary/params.yaml"], "root: field requ"),
    "claims without tables": (claims.main, ["experiments/summary/params.yaml"], AGAIN),
    "page without reports": (page.main, ["experiments/summary/params.yaml"], AGAIN),
    "readme without a page": (lambda argv: readme.main(), [], "README.md: .*take it from git"),
    "a graph of none": (graph.main, ["params.yaml"], "dvc.yaml: No such file"),
    "a graph of another": (graph.main, ["experiments/x.yaml"], "experiments/x.yaml: no such file"),
    "remote without a command": (remote.main, [], "are required: command"),
    "an unknown command": (remote.main, ["send"], "invalid choice: 'send'"),
    "pack without a folder": (remote.main, ["pack", "params.yaml"], "are required: folder"),
    "pack without images": (remote.main, ["pack", "params.yaml", "in"], "run dvc repro prepare"),
    "accept of nothing": (remote.main, ["accept", "params.yaml", "in"], "in: holds nothing that"),
    "accept of no folder": (remote.main, ["accept", "params.yaml", "out"], "out: no such folder"),
    "accept of a file": (remote.main, ["accept", "params.yaml", "params.yaml"], "no such folder"),
    "no time": (remote.main, [*RUN, "--minutes", "0", "--models", "um", "--seeds", "0"],
                "--minutes: invalid minutes value: '0'"),
    "no number of minutes": (remote.main, [*RUN, "--minutes", "nan", "--models", "um", "--seeds",
                                           "0"], "--minutes: invalid minutes value: 'nan'"),
    "endless time": (remote.main, [*RUN, "--minutes", "inf", "--models", "um", "--seeds", "0"],
                     "--minutes: invalid minutes value: 'inf'"),
    "a seed elsewhere": (remote.main, [*RUN, "--minutes", "1", "--models", "um", "--seeds", "99"],
                         "seeds: 99 is not among those of um"),
    "a model elsewhere": (remote.main, [*RUN, "--minutes", "1", "--models", "x", "--seeds", "0"],
                          "models: 'x' is not among them"),
    "away without models": (away.main, ["params.yaml", "--seeds", "0"], "are required: --models"),
    "away with words": (away.main, ["params.yaml", "--models", "um", "--seeds", "x"],
                        "--seeds: invalid int value: 'x'"),
    "score without a model": (score.main, [], "are required: --model"),
    "a model of no form": (score.main, ["--model", "x.onnx"], re.escape(FORMS)),
    "a model of no file": (score.main, ["--model", "x.py:build"], "^x.py: no such file$"),
    "no images": (score.main, ["--model", "x.pt", "--images", "0"], "'0' is no number of images"),
    "a power": (score.main, ["--model", "x.pt", "--images", "²"], "'²' is no number of images"),
    "too many digits": (score.main, ["--model", "x.pt", "--images", "9" * 5000], "no number of"),
    "no device": (score.main, ["--model", "x.pt", "--device", "tpu"], "neither cpu nor cuda"),
    "no study": (score.main, ["--model", "x.pt", "--study", "x"], "^x: no such file; name a par"),
}


@pytest.mark.parametrize(("main", "arguments", "words"), OTHERS.values(), ids=OTHERS)
def test_what_a_command_line_gets_wrong_is_said(main, arguments, words):
    assert re.search(words, refusal(main, *arguments))


@pytest.mark.parametrize(("script", "arguments", "words"), [
    ("resolve", ["nope.yaml"], "^nope.yaml: no such file; name a params.yaml\n$"),
    ("claims", [], "^claims.py: the following arguments are required: config; --help says more\n$"),
    ("train", ["params.yaml", "--model", "um"], "images.safetensors: no such file; run dvc repro"),
    ("score", ["--model", "x.py:f"], "^x.py: no such file\n$")])
def test_a_process_says_the_same(script, arguments, words):
    before = tree()
    found = subprocess.run([sys.executable, STAGES / f"{script}.py", *arguments], text=True,
                           capture_output=True)
    assert found.returncode == 1 and found.stdout == ""
    assert re.search(words, found.stderr) and found.stderr.count("\n") == 1
    assert tree() == before
