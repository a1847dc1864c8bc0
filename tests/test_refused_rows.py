"""Rows, tables and pictures that are refused: by their file, with what makes them again."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import PARAMS
from refusals import refusal
from test_report import SCORED, write_random_rows

import claims
import compare
import page
import readme
import report
import show
from tla.files import read_rows, write_rows

ROOT = PARAMS.parent
ROWS, EMBEDDING = Path("data/digits/rows"), Path("data/digits/embedding")
SUITE, BROKEN = ROWS / "at" / "suite.csv.gz", ROWS / "at" / "broken.npz"
SUMMARY = "experiments/summary/params.yaml"
AGAIN = "; run dvc repro, which makes it again$"


@pytest.fixture(scope="module")
def folders(tmp_path_factory, raw_params):
    """A study of random rows without reports, and the committed reports with what they say of."""
    rows, reports = tmp_path_factory.mktemp("rows"), tmp_path_factory.mktemp("reports")
    write_random_rows(rows, raw_params, SCORED)
    for name in ("params.yaml", "README.md"):
        shutil.copy(ROOT / name, reports)
    for name in ("experiments", "reports", "docs", "stages"):
        shutil.copytree(ROOT / name, reports / name)
    return {"rows": rows, "reports": reports}


@pytest.fixture
def damage(folders, monkeypatch):
    """Changes a file of one of the folders, in which the test then runs, until it is over."""
    saved = {}

    def damaged(folder, path, change):
        monkeypatch.chdir(folders[folder])
        saved[path.absolute()] = path.read_bytes()
        change(path)
    yield damaged
    for path, content in saved.items():
        path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def halved(path):
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])


def at_a_line(path):
    """Without its last lines: nothing else shows that it is not whole."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:len(lines) // 2]))


def without_lines(path):
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])


def without_a_column(path):
    path.write_bytes(path.read_bytes().replace(b",", b",no-", 1))


def edited(path):
    """One digit is another."""
    path.write_bytes(re.sub(rb"(?s)(.*)\b0\.", rb"\g<1>1.", path.read_bytes(), count=1))


def with_text(path):
    path.write_text("<html>not found\n")


def with_bytes(path):
    path.write_bytes(b"\xff\xfe\n")


def empty(path):
    path.write_bytes(b"")


def elsewhere(path):
    """That of another model in its place."""
    path.write_bytes(Path(str(path).replace("/at/", "/alp/")).read_bytes())


def rewritten(**columns):
    """Other values in the first row."""
    def change(path):
        rows = read_rows(path).astype(object)
        for column, value in columns.items():
            rows.loc[0, column] = value
        write_rows(path, rows)
    return change


def dropped(*columns):
    return lambda path: write_rows(path, read_rows(path).drop(columns=list(columns)))


def pickled(path):
    np.savez(path, x=np.array([{}], object))


OF_ROWS = {
    "missing": (Path.unlink, "cannot be read: No such file or directory"),
    "empty": (empty, "is damaged"), "cut": (cut, "is damaged"), "text": (with_text, "is damaged"),
    "bytes": (with_bytes, "is damaged"),
}


# Rows

@pytest.fixture
def without_tables(monkeypatch):
    """`compare` reads rows, and makes of them no table but that of examples."""
    for name in ("accuracy_tables", "beyond_tables", "embedding_tables", "variant_tables"):
        monkeypatch.setattr(compare, name, lambda *_: {})


@pytest.mark.parametrize(("change", "words"), OF_ROWS.values(), ids=OF_ROWS)
@pytest.mark.parametrize("path", [
    SUITE, ROWS / "tla" / "norms.csv.gz", EMBEDDING / "um" / "neighbors.csv.gz", BROKEN], ids=str)
def test_damaged_rows_are_refused(path, change, words, damage, without_tables):
    damage("rows", path, change)
    assert re.search(f"^{path}: {words}{AGAIN}", refusal(compare.main, "params.yaml"))


SUITES = {
    "another model's": (elsewhere, "holds what was written as digits.rows.alp.suite"),
    "two": (rewritten(cw_last=2), "cw_last: holds more than 0 and 1, wrong and right"),
    "no clean image": (dropped("clean"), "clean: is missing"),
}


@pytest.mark.parametrize(("change", "words"), SUITES.values(), ids=SUITES)
def test_rows_of_something_else_are_refused(change, words, damage):
    damage("rows", SUITE, change)
    assert re.search(f"^{SUITE}: {words}.*{AGAIN}", refusal(compare.main, "params.yaml"))


@pytest.mark.parametrize(("change", "words"), [
    (elsewhere, "holds what was written as digits.rows.alp.broken"), (pickled, "is damaged")])
def test_arrays_of_something_else_are_refused(change, words, damage, without_tables):
    damage("rows", BROKEN, change)
    assert re.search(f"^{BROKEN}: {words}{AGAIN}", refusal(compare.main, "params.yaml"))


# Tables

TABLES = Path("reports/digits/tables")
OF_TABLES = {
    "missing": (Path.unlink, "cannot be read: No such file or directory"),
    "empty": (empty, "is damaged"), "cut": (cut, "is damaged"), "bytes": (with_bytes, "is damaged"),
    "cut at a line": (at_a_line, "was edited or cut"),
    "without lines": (without_lines, "was edited or cut"),
    "without a column": (without_a_column, "was edited or cut"),
    "edited": (edited, "was edited or cut"), "text": (with_text, "was edited or cut"),
}


@pytest.mark.parametrize(("change", "words"), OF_TABLES.values(), ids=OF_TABLES)
@pytest.mark.parametrize("name", ["accuracy", "differences", "masking"])
def test_damaged_tables_are_refused(name, change, words, damage):
    path = TABLES / f"{name}.csv"
    damage("reports", path, change)
    assert re.search(f"^{path}: {words}{AGAIN}", refusal(show.main, "params.yaml"))


@pytest.mark.parametrize(("main", "argument", "name"), [
    (report.main, "params.yaml", "cost"), (report.main, "params.yaml", "ood"),
    (claims.main, SUMMARY, "differences"), (claims.main, SUMMARY, "auc-differences"),
    (claims.main, SUMMARY, "masking"), (claims.main, SUMMARY, "cost"),
    (page.main, SUMMARY, "survivors")], ids=lambda each: getattr(each, "__module__", str(each)))
def test_tables_cut_at_a_line_are_refused_wherever_they_are_read(main, argument, name, damage):
    study = "digits" if main is report.main else "mnist-fast"
    path = Path(f"reports/{study}/tables/{name}.csv")
    damage("reports", path, at_a_line)
    assert re.search(f"^{path}: was edited or cut{AGAIN}", refusal(main, argument))


@pytest.mark.parametrize("change", [Path.unlink, empty, cut], ids=["missing", "empty", "cut"])
def test_tables_without_their_digests_are_refused(change, damage):
    path = TABLES / "digests.json"
    damage("reports", path, change)
    assert re.search(f"^{path}: .*{AGAIN}", refusal(show.main, "params.yaml"))


# What else reports are made from

OTHERS = {
    "distances": (report.main, "params.yaml", "reports/digits/metrics/represent-at.json",
                  cut, "is damaged"),
    "a benchmark": (claims.main, SUMMARY, "reports/benchmarks/training.csv", cut, "is damaged"),
    "trials": (report.main, "params.yaml", "reports/digits/tuning.csv", cut, "is damaged"),
    "a report": (page.main, SUMMARY, "reports/mnist-fast/REPORT.md", with_bytes, "is no text in"),
    "no report": (page.main, SUMMARY, "reports/mnist-fast/REPORT.md", Path.unlink, "cannot be rea"),
    "a figure": (page.main, SUMMARY, "reports/digits/figures/accuracy.svg", with_bytes, "is no t"),
    "examples": (page.main, SUMMARY, "reports/digits/examples/examples.csv", cut, "is damaged"),
    "a sheet": (page.main, SUMMARY, "reports/digits/examples/at.png", halved, "is missing or"),
    "no sheet": (page.main, SUMMARY, "reports/digits/examples/at.png", Path.unlink, "cannot be"),
    "the ledger": (page.main, SUMMARY, "reports/claims.csv", cut, "is damaged"),
    "counts": (page.main, SUMMARY, "reports/claims.json", cut, "is damaged"),
    "claims": (page.main, SUMMARY, "reports/claims.md", empty, "lacks its ledger"),
}


@pytest.mark.parametrize(("main", "argument", "path", "change", "words"), OTHERS.values(),
                         ids=OTHERS)
def test_what_reports_are_made_from_is_refused(main, argument, path, change, words, damage):
    damage("reports", Path(path), change)
    assert re.search(f"^{path}: {words}.*{AGAIN}", refusal(main, argument))


@pytest.mark.parametrize(("path", "change", "words"), [
    ("README.md", empty, "lacks the lines <!-- verdict of MNIST"),
    ("README.md", with_bytes, "README.md: is no text in UTF-8; take it from git again"),
    ("docs/speed.md", empty, "lacks the lines <!-- table of make bench"),
    ("reports/benchmarks/machine.txt", Path.unlink, "machine.txt: cannot be read: No such file"),
    ("reports/benchmarks/attacks.csv", cut, "reports/benchmarks/attacks.csv: is damaged")])
def test_pages_that_are_not_as_they_were_are_refused(path, change, words, damage):
    damage("reports", Path(path), change)
    assert re.search(words, refusal(lambda argv: readme.main()))


@pytest.mark.parametrize("name", ["neighbors.png", "neighbors.csv", "tsne.csv", "surface.csv"])
@pytest.mark.parametrize("change", [halved, Path.unlink], ids=["cut", "missing"])
def test_pictures_of_embeddings_are_refused(name, change, damage, monkeypatch):
    path = Path("reports/digits/represent/at") / name
    damage("reports", path, change)
    monkeypatch.setattr(report, "drawings", lambda out, params, tables: [
        lambda: report.draw_embedding(out, params)])
    assert re.search(f"^{path}: .*{AGAIN}", refusal(report.main, "params.yaml"))


def test_a_whole_table_is_read(damage):
    """The folders are sound: all of the above is said of the damage alone."""
    damage("reports", TABLES / "masking.csv", lambda path: None)
    show.main(["params.yaml"])
    damage("rows", SUITE, lambda path: None)
    assert isinstance(read_rows(SUITE), pd.DataFrame)
