"""Full disks, folders that cannot be written, and states of stopped work that are not whole."""

import errno
import os
import re
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import PARAMS
from refusals import ended, refusal, tree
from small_study import edit
from test_report import SCORED, write_random_rows

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
import train
import transfer
import tune
import vary
from tla.train.resume import DIGEST, Resume
from tla.train.training import Trainer

ROOT = PARAMS.parent
SUMMARY = "experiments/summary/params.yaml"
FULL, SEALED = errno.ENOSPC, errno.EROFS
REMEDIES = {FULL: "No space left on device; free some space",
            SEALED: "Read-only file system; .*make"}
broken = pytest.mark.parametrize("number", REMEDIES, ids=["full", "read-only"])


@pytest.fixture
def fail(monkeypatch):
    """Has writing fail after so many files; on a full disk half of the next one is written."""
    def failing(number, after=0):
        left, write, make = [after], Path.write_bytes, Path.mkdir

        def write_bytes(path, content):
            left[0] -= 1
            if left[0] >= 0:
                return write(path, content)
            if number == FULL:
                write(path, content[:len(content) // 2])
            raise OSError(number, os.strerror(number))

        def mkdir(path, mode=0o777, parents=False, exist_ok=False):
            if number == SEALED and not path.is_dir():
                raise OSError(number, os.strerror(number), str(path))
            make(path, mode, parents, exist_ok)

        monkeypatch.setattr(Path, "write_bytes", write_bytes)
        monkeypatch.setattr(Path, "mkdir", mkdir)
    return failing


@pytest.fixture
def study(study, monkeypatch):
    """A small study whose trainings take three epochs, one after the other."""
    study.train(study.params({
        "train.epochs": 3, "attack.steps": 1, "mining.batch": 20, "tune.trials": 1,
        "tune.space": {"at": [{"methods.at.lr": 0.01}]},
        "variants": {"part": "test", "attacks": {"fgsm": 5}, "scale": None, "gain": None,
                     "trained": {"wide": {"models": ["at"], "seeds": [0], "changes": {}}}}}))
    for name in ("data/kept/digits/at/seed-0", "data/kept/digits/at/seed-1", "data/unfinished",
                 "data/kept/digits/trials", "data/kept/digits/um/seed-0", "reports/digits", "out",
                 "reports/digits/parameters", "scores/digits/seed-1/kept"):
        Path(name).mkdir(parents=True, exist_ok=True)

    def one_by_one(function, items, *_, **__):
        return [function(item) for item in items]

    for script in (train, tune):
        monkeypatch.setattr(script, "map_parallel", one_by_one)
    return study


AT = ["params.yaml", "--model", "at"]
KEPT = "data/kept/digits/at/seed-[01]/"
SCRIPTS = {
    "resolve": (resolve.main, ["params.yaml"], "reports/digits/parameters/um.json"),
    "prepare": (prepare.main, ["params.yaml"], "data/digits/prepared/images.safetensors"),
    "train": (train.main, AT, "data/digits/models/at/seed-0.safetensors"),
    "AutoAttack": (evaluate.main, AT, f"{KEPT}suite-autoattack.safetensors"),
    "represent": (represent.main, AT, f"{KEPT}represent-detected.safetensors"),
    "transfer": (transfer.main, ["params.yaml"], "data/kept/digits/um/seed-0/transfer.safetensors"),
    "tune": (tune.main, ["params.yaml"], "data/kept/digits/trials/at-0-0.safetensors"),
    "vary": (vary.main, ["params.yaml", "--variant", "wide"], "what is written below /"),
    "score": (score.main, ["--model", "data/digits/models/at/seed-1.safetensors"],
              "scores/digits/seed-1/kept/suite-autoattack.safetensors"),
    "remote": (remote.main, ["pack", "params.yaml", "out"], "out/images.tar.gz.000"),
}


@pytest.mark.parametrize(("main", "arguments", "place"), SCRIPTS.values(), ids=SCRIPTS)
@broken
def test_what_cannot_be_written_is_named_and_nothing_is_left_of_it(
        number, main, arguments, place, study, fail):
    fail(number)
    assert re.search(f"^{place}.*{REMEDIES[number]}", refusal(main, *arguments))


# Reports, which are replaced in one step

@pytest.fixture(scope="module")
def reports(tmp_path_factory, raw_params):
    """A study of random rows, and in another folder the committed reports."""
    rows, folder = tmp_path_factory.mktemp("rows"), tmp_path_factory.mktemp("reports")
    write_random_rows(rows, raw_params, SCORED)
    shutil.copytree(ROOT / "reports" / "digits", rows / "reports" / "digits", dirs_exist_ok=True)
    for name in ("params.yaml", "README.md", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("experiments", "reports", "docs", "stages"):
        shutil.copytree(ROOT / name, folder / name)
    return {"rows": rows, "reports": folder}


OF_REPORTS = {
    "compare": ("rows", compare.main, ["params.yaml"]),
    "report": ("reports", report.main, ["params.yaml"]),
    "claims": ("reports", claims.main, [SUMMARY]), "page": ("reports", page.main, [SUMMARY]),
    "readme": ("reports", lambda argv: readme.main(), []),
    "graph": ("reports", graph.main, ["params.yaml"]),
}


@pytest.fixture
def quick(monkeypatch):
    """No table takes time, and one figure is drawn."""
    for name in ("beyond_tables", "embedding_tables", "variant_tables"):
        monkeypatch.setattr(compare, name, lambda *_: {})
    monkeypatch.setattr(report, "map_parallel", lambda function, items, title: [
        function(item) for item in items])
    monkeypatch.setattr(report, "drawings", lambda out, params, tables: [
        lambda: report.draw_norms(out, params, tables["accuracy"])])


@pytest.mark.parametrize(("folder", "main", "arguments"), OF_REPORTS.values(), ids=OF_REPORTS)
@broken
def test_a_report_that_cannot_be_written_leaves_yesterdays(
        number, folder, main, arguments, reports, quick, fail, monkeypatch):
    monkeypatch.chdir(reports[folder])
    fail(number)
    assert re.search(REMEDIES[number], refusal(main, *arguments))


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("name", ["compare", "report", "claims"])
def test_reports_are_replaced_in_one_step_or_not_at_all(
        name, after, reports, quick, fail, monkeypatch):
    """Also where the disk is full only when some of them are written."""
    folder, main, arguments = OF_REPORTS[name]
    monkeypatch.chdir(reports[folder])
    fail(FULL, after)
    assert re.search(REMEDIES[FULL], refusal(main, *arguments))


def test_what_is_in_the_way_is_named(study):
    """A file where a folder must be, and a folder where a file must be."""
    shutil.rmtree("data/kept")
    Path("data/kept").write_text("")
    assert re.search("^data/kept/.*: Not a directory; move what", refusal(evaluate.main, *AT))
    Path("reports/digits/parameters/um.json").mkdir(parents=True)
    assert re.search("um.json: cannot be written: Is a directory", refusal(resolve.main, AT[0]))


# States of stopped work

INTERRUPTED = "interrupted; run the same command again: finished work is kept\n"
STATE = Path("data/unfinished/digits-at-0.pt")


@pytest.fixture
def stopped(study, monkeypatch):
    """The training of a model that was stopped in its second epoch; what it gives if it is not."""
    monkeypatch.setattr(train, "Resume", partial(Resume, seconds=0))
    train.main(AT)
    whole = tree(Path("data/digits/models/at"))
    shutil.rmtree("data/digits/models/at")
    epoch = Trainer.epoch

    def interrupted(self):
        if self.epochs_done == 1:
            raise KeyboardInterrupt
        epoch(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "epoch", interrupted)
        assert ended(train.main, *AT) == (130, INTERRUPTED)
    assert STATE.exists()
    return whole


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def undigested(path):
    path.write_bytes(path.read_bytes()[DIGEST:])


STATES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "a bit": flipped, "text": lambda path: path.write_text("<html>not found"),
    "another program's": undigested,
    "a pickle": lambda path: torch.save({"key": "", "state": Path()}, path),
}


@pytest.mark.parametrize("damage", STATES.values(), ids=STATES)
def test_a_damaged_state_is_discarded_and_its_work_done_again(damage, stopped):
    damage(STATE)
    discarded = f"{STATE}: is damaged and not used; its work is done again\n"
    assert ended(train.main, *AT) == (0, discarded)
    assert tree(Path("data/digits/models/at")) == stopped and not STATE.exists()


def test_a_sound_state_is_used_without_a_word(stopped):
    assert ended(train.main, *AT) == (0, "")
    assert tree(Path("data/digits/models/at")) == stopped


def test_a_state_of_other_parameters_is_not_used(stopped):
    edit("params.yaml", {"methods.at.lr": 0.02})
    train.main(AT)
    assert tree(Path("data/digits/models/at")) != stopped


def test_a_folder_in_the_place_of_a_state_is_named(stopped):
    STATE.unlink()
    STATE.mkdir()
    assert re.search(f"^{STATE}: Is a directory; move what is there away", refusal(train.main, *AT))


def test_a_state_that_cannot_be_kept_stops_the_training(stopped, fail):
    fail(FULL)
    assert re.search("No space left on device; free some space", refusal(train.main, *AT))
