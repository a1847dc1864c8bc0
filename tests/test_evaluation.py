"""From attacks to rows and from rows to accuracies: every number re-derived from a table written by hand."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from tla.core.attacks import least_likely
from tla.core.data import Split
from tla.evaluation import attack_columns, check_model, clean_columns
from tla.files import read_metrics, read_rows, write_metrics, write_rows, write_table
from tla.rows import accuracy_metrics, accuracy_table, correct_columns, readouts, wilson

# Two seeds share the images 10 and 11; image 12 is seed 1's alone.
ROWS = pd.DataFrame(
    [[0, 10, 3, 3, 1, 1, 1, 1],
     [0, 11, 4, 4, 0, 1, 1, 1],
     [1, 10, 3, 3, 1, 1, 0, 0],
     [1, 11, 4, 5, 0, 0, 0, 1],
     [1, 12, 5, 5, 1, 1, 1, 1]],
    columns=["seed", "idx", "label", "clean_pred", "pgd_20_worst", "pgd_20_last", "cw_worst", "cw_last"])


def line(table, attack, convention):
    (found,) = table[(table.attack == attack) & (table.convention == convention)].to_dict("records")
    return found


# Accuracy is the mean over images of the mean over seeds.
@pytest.mark.parametrize(("attack", "convention", "per_image", "per_seed"), [
    ("clean", "none", [1, 1 / 2, 1], [1, 2 / 3]),
    ("pgd_20", "worst", [1, 0, 1], [1 / 2, 2 / 3]),
    ("pgd_20", "last", [1, 1 / 2, 1], [1, 2 / 3]),
    ("cw", "worst", [1 / 2, 1 / 2, 1], [1, 1 / 3]),
    ("cw", "last", [1 / 2, 1, 1], [1, 2 / 3]),
    ("union", "worst", [1 / 2, 0, 1], [1 / 2, 1 / 3]),
])
def test_accuracy_by_hand(attack, convention, per_image, per_seed):
    found = line(accuracy_table(ROWS), attack, convention)
    assert found["accuracy"] == pytest.approx(np.mean(per_image))
    assert found["std"] == pytest.approx(np.std(per_seed, ddof=1))


def test_images_are_counted_once_over_seeds():
    table = accuracy_table(ROWS)
    assert set(table.images) == {3} and set(table.seeds) == {2}
    found = line(table, "pgd_20", "worst")
    assert (found["low"], found["high"]) == wilson(2 / 3, 3)


def test_one_seed_has_no_spread():
    table = accuracy_table(ROWS[ROWS.seed == 0])
    assert table["std"].isna().all() and set(table.seeds) == {1}


def test_the_union_survives_only_what_every_attack_leaves():
    correct = correct_columns(ROWS)
    assert correct.union_worst.tolist() == [True, False, False, False, True]
    for column in ("clean", "pgd_20_worst", "cw_worst"):
        assert (correct.union_worst <= correct[column]).all()


def test_the_union_counts_the_clean_image():
    """An image misclassified when clean is lost, even where a row says that an attack left it correct."""
    rows = ROWS.assign(pgd_20_worst=1, cw_worst=1)
    assert correct_columns(rows).union_worst.tolist() == [True, True, True, False, True]


def test_an_attack_counts_on_the_images_it_was_run_on():
    rows = ROWS.assign(cw_worst=[1, None, 0, None, 1], cw_last=[1, None, 0, None, 1])
    table = accuracy_table(rows)
    for attack, convention in (("cw", "worst"), ("cw", "last"), ("union", "worst")):
        found = line(table, attack, convention)
        assert (found["accuracy"], found["images"]) == (pytest.approx((1 / 2 + 1) / 2), 2)
        assert (found["low"], found["high"]) == wilson(3 / 4, 2)
    assert line(table, "pgd_20", "worst")["images"] == accuracy_metrics(table)["images"] == 3


def test_a_budget_is_in_the_name_where_there_are_several(plain_attack):
    attacks = {"pgd": plain_attack(steps=[20, 400]), "cw-50": plain_attack(steps=[40])}
    assert readouts(attacks) == {"pgd-20": ("pgd", 0), "pgd-400": ("pgd", 1), "cw-50": ("cw-50", 0)}


def test_metrics_are_named_by_attack_and_convention():
    metrics = accuracy_metrics(accuracy_table(ROWS))
    assert metrics == pytest.approx({
        "clean_accuracy": 5 / 6, "pgd_20_accuracy_worst": 2 / 3, "pgd_20_accuracy_last": 5 / 6,
        "cw_accuracy_worst": 2 / 3, "cw_accuracy_last": 5 / 6, "union_accuracy_worst": 1 / 2,
        "robust_accuracy": 1 / 2, "images": 3, "seeds": 2})
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) for name in metrics)


def test_metrics_are_written_sorted_with_four_places(tmp_path):
    path = tmp_path / "metrics" / "at.json"
    metrics = accuracy_metrics(accuracy_table(ROWS))
    write_metrics(path, metrics)
    written = json.loads(path.read_text())
    assert list(written) == sorted(metrics)
    assert written["clean_accuracy"] == 0.8333 and written["images"] == 3
    assert read_metrics(path) == written


@pytest.mark.parametrize(("write", "name"), [
    (write_rows, "rows.csv.gz"), (write_table, "table.csv")])
def test_equal_tables_are_equal_bytes(write, name, tmp_path):
    """Whatever the name, and with no time stamp inside."""
    write(tmp_path / "first" / name, ROWS)
    write(tmp_path / "second" / name, ROWS.copy())
    first, second = ((tmp_path / folder / name).read_bytes() for folder in ("first", "second"))
    assert first == second
    assert [path.name for path in (tmp_path / "first").iterdir()] == [name]


def test_rows_are_compressed_without_a_time(tmp_path):
    """Two writes within a second are equal either way, so look at the field of the gzip header itself."""
    write_rows(tmp_path / "rows.csv.gz", ROWS)
    assert (tmp_path / "rows.csv.gz").read_bytes()[4:8] == bytes(4)


def test_rows_survive_their_file(tmp_path):
    write_rows(tmp_path / "rows.csv.gz", ROWS)
    pd.testing.assert_frame_equal(read_rows(tmp_path / "rows.csv.gz"), ROWS)


# Rows of real attacks

@pytest.fixture(scope="module")
def split(images):
    x, y = images
    return Split(x, y, torch.arange(100, 100 + len(y)))


@pytest.fixture
def evaluate(network, split):
    """Rows of the given attacks on the split."""
    def rows(attacks, batch=64, eps=0.08):
        columns = clean_columns(network, split, batch)
        for name, attack in attacks.items():
            columns |= attack_columns(network, split, name, attack, eps=eps, batch=batch,
                                      generator=torch.Generator().manual_seed(0))
        return pd.DataFrame({name: column.numpy() for name, column in columns.items()})
    return rows


@pytest.fixture
def suite(params):
    """The suite of params.yaml with at most 30 steps."""
    return {name: dataclasses.replace(attack, steps=sorted({min(steps, 30) for steps in attack.steps}))
            for name, attack in params.evaluate.attacks.items()}


def test_one_row_an_image_with_every_readout_in_both_conventions(evaluate, suite, split):
    rows = evaluate(suite)
    assert rows.idx.tolist() == split.idx.tolist() and rows.label.tolist() == split.y.tolist()
    outcomes = {name.replace("-", "_") + end for name in readouts(suite) for end in ("_worst", "_last")}
    shown = {name.replace("-", "_") + end for name in suite for end in ("_linf", "_pred")}
    assert set(rows) == {"idx", "label", "clean_pred"} | outcomes | shown


def test_the_prediction_shown_agrees_with_correct_after_the_last_step(evaluate, suite):
    rows = evaluate(suite)
    last = {name: list(readouts({name: suite[name]}))[-1].replace("-", "_") for name in suite}
    for name, readout in last.items():
        assert ((rows[f"{name.replace('-', '_')}_pred"] == rows.label) == rows[f"{readout}_last"].astype(bool)).all()


def test_worst_is_at_most_last_and_at_most_clean(evaluate, suite):
    rows = evaluate(suite)
    correct = correct_columns(rows)
    for column in (c for c in correct if c.endswith("_worst") and c != "union_worst"):
        assert (correct[column] <= correct.clean).all()
        assert (correct[column] <= correct[column.replace("_worst", "_last")]).all()


def test_outcomes_stand_in_the_column_of_their_convention(network, split, plain_attack):
    """Images labelled as what the attack aims at are wrong before the first step and right after the last."""
    aimed = dataclasses.replace(split, y=least_likely(lambda x: network(x)[0], split.x))
    attack = plain_attack(loss="least_likely", steps=[1, 60])
    columns = attack_columns(network, aimed, "to", attack, eps=0.4, batch=64, generator=torch.Generator())
    assert columns["to_1_worst"].sum() == columns["to_60_worst"].sum() == 0
    assert columns["to_1_last"].sum() < columns["to_60_last"].sum() == 64


def test_the_change_shown_is_within_eps(evaluate, suite):
    changes = evaluate(suite).filter(like="_linf")
    assert changes.to_numpy().max() <= 0.08 + 1e-7     # the column is float32
    assert (changes.max() > 0.05).all()


def test_rows_do_not_depend_on_the_batch(evaluate, plain_attack):
    attacks = {"pgd": plain_attack(steps=[5, 20]), "mim": plain_attack(momentum="l1", decay=1.0)}
    pd.testing.assert_frame_equal(evaluate(attacks, batch=64), evaluate(attacks, batch=7))


def test_rows_carry_a_referee(evaluate, plain_attack, monkeypatch):
    """A suite that cheats is stopped: the attack is told a larger eps than the referee."""
    from tla import evaluation
    honest = evaluation.run_attack
    monkeypatch.setattr(evaluation, "run_attack", lambda *a, eps, **k: honest(*a, eps=2 * eps, **k))
    with pytest.raises(ValueError, match="more than eps"):
        evaluate({"pgd": plain_attack()})


def test_a_model_that_returns_nan_is_refused(split, plain_attack):
    def broken(x):
        return torch.full((len(x), 10), torch.nan, dtype=x.dtype) * x.sum(), x.flatten(1)

    with pytest.raises(ValueError, match="not finite"):
        clean_columns(broken, split, 8)
    with pytest.raises(ValueError, match="not finite"):
        attack_columns(broken, split, "pgd", plain_attack(), eps=0.1, batch=8, generator=torch.Generator())


class Answers(torch.nn.Module):
    """A model that answers with the given function of its logits."""

    def __init__(self, network, change):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, x):
        logits, embedding = self.network(x)
        return self.change(logits), embedding


@pytest.mark.parametrize(("change", "words"), [
    (lambda z: z.softmax(1), "probabilities"), (lambda z: z * float("nan"), "not finite"),
    (lambda z: z[:, :9], "shape"), (lambda z: z.sum(1), "shape"),
    (lambda z: z + torch.rand_like(z), "differently when asked again")])
def test_a_model_that_is_unfit_for_attacks_is_refused_by_what_it_returned(change, words, network, images):
    with pytest.raises(ValueError, match=words):
        check_model(Answers(network, change), images[0], 10)


@pytest.mark.parametrize("change", [lambda z: z, lambda z: z.log_softmax(1), lambda z: z - z.min() + 1])
def test_logits_up_to_a_shift_are_accepted(change, network, images):
    check_model(Answers(network, change), images[0], 10)
