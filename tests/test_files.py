"""Tables, rows and metrics in files: rounded, sorted, equal bytes for equal content."""

import json

import pandas as pd
import pytest

from tla.files import read_metrics, read_rows, write_metrics, write_rows, write_table

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
    """Whatever the name, and with no time stamp inside."""
    write(tmp_path / "first" / name, ROWS)
    write(tmp_path / "second" / f"longer-{name}", ROWS.copy())
    first = (tmp_path / "first" / name).read_bytes()
    assert first == (tmp_path / "second" / f"longer-{name}").read_bytes()
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
