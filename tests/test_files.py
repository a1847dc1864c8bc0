"""Tables, rows and metrics in files: rounded, sorted, equal bytes for equal content."""

import gzip
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tla.files import (
    place_of,
    read_arrays,
    read_csv,
    read_metrics,
    read_rows,
    replacing,
    write_arrays,
    write_metrics,
    write_rows,
    write_table,
    write_text,
)
from tla.params import UserError

ROWS = pd.DataFrame(
    [[0, 10, 3, 3, 1, 0.123456789], [0, 11, 4, 4, 0, 1 / 3], [1, 10, 3, 3, 1, 2.0]],
    columns=["seed", "idx", "label", "clean_pred", "pgd_20_worst", "pgd_linf"])


def test_metrics_are_written_sorted_with_four_places(tmp_path):
    path = tmp_path / "metrics" / "at.json"
    write_metrics(path, {"seeds": 2, "clean_accuracy": 5 / 6, "cw_last_accuracy": 2 / 3})
    written = json.loads(path.read_text())
    assert list(written) == ["clean_accuracy", "cw_last_accuracy", "seeds"]
    assert written == {"clean_accuracy": 0.8333, "cw_last_accuracy": 0.6667, "seeds": 2}
    assert isinstance(written["seeds"], int)
    assert read_metrics(path) == written


@pytest.mark.parametrize(("write", "name"), [
    (write_rows, "rows.csv.gz"), (write_table, "table.csv")])
def test_equal_tables_are_equal_bytes(write, name, tmp_path):
    """With no time stamp, and no more of their path than is below data/, inside."""
    write(tmp_path / "first" / name, ROWS)
    write(tmp_path / "second" / name, ROWS.copy())
    first = (tmp_path / "first" / name).read_bytes()
    assert first == (tmp_path / "second" / name).read_bytes()
    assert [path.name for path in (tmp_path / "first").iterdir()] == [name]


def test_rows_are_compressed_without_a_time(tmp_path):
    """Two writes within a second are equal either way: look at the field of the gzip header."""
    write_rows(tmp_path / "rows.csv.gz", ROWS)
    assert (tmp_path / "rows.csv.gz").read_bytes()[4:8] == bytes(4)


def test_rows_survive_their_file(tmp_path):
    write_rows(tmp_path / "rows.csv.gz", ROWS)
    found = read_rows(tmp_path / "rows.csv.gz")
    pd.testing.assert_frame_equal(found, ROWS, rtol=1e-8, atol=0)
    assert found.pgd_linf[0] == 0.123456789


def test_what_is_computed_from_keeps_twelve_digits_where_asked(tmp_path):
    write_table(tmp_path / "exact.csv", ROWS, exact=True)
    write_table(tmp_path / "shown.csv", ROWS)
    assert pd.read_csv(tmp_path / "exact.csv").pgd_linf.tolist() == [0.123456789, 0.333333333333, 2]
    assert pd.read_csv(tmp_path / "shown.csv").pgd_linf.tolist() == [0.1235, 0.3333, 2]


# Files that are not what they should be

KINDS = {"rows.csv.gz": (write_rows, read_rows, ROWS),
         "table.csv": (write_table, read_csv, ROWS),
         "metrics.json": (write_metrics, read_metrics, {"seeds": 2}),
         "arrays.npz": (write_arrays, read_arrays, {"x": np.arange(9)})}
every_kind = pytest.mark.parametrize("name", KINDS)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a file of a kind below data/, and gives its path and its reader."""
    monkeypatch.chdir(tmp_path)

    def write(name):
        writer, reader, content = KINDS[name]
        path = Path("data", "digits", "rows", "at", name)
        writer(path, content)
        return path, reader
    return write


def refusal(reader, path):
    with pytest.raises(UserError) as refused:
        reader(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ") and message.endswith("; run dvc repro, which makes it "
                                                                "again")
    return message


@every_kind
def test_a_missing_file_is_named(name, written):
    path, reader = written(name)
    path.unlink()
    assert "No such file" in refusal(reader, path)


@every_kind
def test_a_file_cut_short_is_named(name, written):
    path, reader = written(name)
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:length])
        assert "is damaged" in refusal(reader, path)


@every_kind
@pytest.mark.parametrize("content", [b"\0" * 50, b"\xff\xfe\n", b"{}[]"], ids=repr)
def test_a_file_of_something_else_is_named(name, content, written):
    path, reader = written(name)
    path.write_bytes(content)
    assert "is damaged" in refusal(reader, path)


@pytest.mark.parametrize("name", ["rows.csv.gz", "arrays.npz"])
def test_what_was_written_of_one_model_is_not_taken_for_anothers(name, written):
    path, reader = written(name)
    other = Path("data", "digits", "rows", "tla", name)
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    said = refusal(reader, other)
    assert f"holds what was written as {place_of(path)}" in said and ".at." in said


def test_rows_that_another_program_wrote_are_refused(written):
    path, reader = written("rows.csv.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())))
    assert "was written as nothing" in refusal(reader, path)


def test_the_place_of_a_file_is_its_path_below_data():
    assert place_of(Path("data/digits/rows/at/suite.csv.gz")) == "digits.rows.at.suite"
    assert place_of(Path("/x/data/digits/rows/transfer.csv.gz")) == "digits.rows.transfer"
    assert place_of(Path("scores/digits/mine/suite.csv.gz")) == "suite"


def test_a_pickle_is_never_read(written):
    path, reader = written("arrays.npz")
    np.savez(path, x=np.array([{}], object))
    assert "is damaged" in refusal(reader, path)


# Replacing

def content(folder):
    return {str(path.relative_to(folder)): path.read_text()
            for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def yesterday(tmp_path):
    write_text(tmp_path / "REPORT.md", "old")
    write_text(tmp_path / "tables" / "gone.csv", "old")
    write_text(tmp_path / "metrics" / "at.json", "old")
    return tmp_path


def test_what_was_written_replaces_files_and_whole_folders_of_its_name(yesterday):
    with replacing(yesterday) as out:
        write_text(out / "REPORT.md", "new")
        write_text(out / "tables" / "new.csv", "new")
        write_text(out / "figures" / "new.svg", "new")
    assert content(yesterday) == {"REPORT.md": "new", "tables/new.csv": "new",
                                  "figures/new.svg": "new", "metrics/at.json": "old"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UserError])
def test_a_failure_leaves_all_as_it_was(error, yesterday):
    before = content(yesterday)
    with pytest.raises(error), replacing(yesterday) as out:
        write_text(out / "REPORT.md", "new")
        write_text(out / "tables" / "new.csv", "new")
        raise error("x")
    assert content(yesterday) == before


def test_a_full_disk_leaves_the_file_that_was_there_and_no_half_of_another(tmp_path, monkeypatch):
    write_text(tmp_path / "x", "old")

    def full(path, content):
        Path.open(path, "wb").write(content[:1])
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    path = re.escape(str(tmp_path / "x"))
    with pytest.raises(UserError, match=f"^{path}: cannot be written: No space"):
        write_text(tmp_path / "x", "new")
    assert content(tmp_path) == {"x": "old"}
