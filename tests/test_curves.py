"""L2 and L0 in tables, labels and figures, by hand."""

from math import inf, nan

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from tla.measure.norms import at_radius, over_radii
from tla.outcomes import Outcome
from tla.report import figures
from tla.report.curves import (
    curve_lines,
    distances_line,
    norm_facts,
    norm_label,
    radius_of,
    with_norms,
)
from tla.report.tables import accuracy_lines, by_model, differences

SUITE = pd.DataFrame({"seed": [0, 0, 0, 1, 1], "idx": [5, 3, 4, 3, 5], "clean": [1, 1, 0, 1, 1]})
NORMS = pd.DataFrame({
    "seed": [0, 0, 1, 1], "idx": [3, 5, 3, 5], "label": 0, "l2_distance": [0.3, 0.7, inf, 0.1],
    "l0_distance": [0.0, 1.0, 2.0, 3.0], "l2-ddn_0.5_worst": [0, 1, 1, 1],
    "l2_0.5_worst": [0, 1, 1, 0], "l2_1_worst": [0, 0, 1, 0], "l0_1_worst": [0, 0, 1, 1],
    "l2_mean_worst": [0, 0.5, 1, 0], "l0_mean_worst": [0, 0, 1, 1]})


@pytest.fixture
def rows():
    return with_norms(SUITE, NORMS)


@pytest.fixture
def accuracy(rows):
    return by_model({"at": rows, "tla": rows}, accuracy_lines)


def test_outcomes_come_to_their_images_in_the_order_of_the_suite(rows):
    assert rows[["seed", "idx", "clean"]].equals(SUITE)
    assert rows["l2_0.5_worst"].fillna(-1).tolist() == [1, 0, -1, 1, 0]   # not image 4
    assert "l2_distance" not in rows and "label" not in rows


def test_accuracy_at_a_radius_is_that_of_the_images_attacked(accuracy):
    line = accuracy[(accuracy.model == "at") & (accuracy.outcome == "l2_mean_worst")].iloc[0]
    assert (line.accuracy, line.images) == ((0.5 + 0.25) / 2, 2)


def test_differences_over_radii_are_of_shares_of_radii(rows):
    other = rows.assign(**{"l2_mean_worst": [0.25, 0.5, nan, 1, 0.5]})
    found = differences({"tla": other, "at": rows}, [("tla", "at")], shared=False)
    line = found[found.outcome == "l2_mean_worst"].iloc[0]
    assert line.difference == pytest.approx(((-0.25 + 0.5) / 2 + (0 + 0.5) / 2) / 2)


@pytest.mark.parametrize("radius", [0.25, 0.5, 1.0, 2.5, 10])
def test_a_radius_is_read_off_the_name_that_it_gives(radius):
    assert radius_of(Outcome.parse(at_radius("l2", radius))) == radius


@pytest.mark.parametrize(("outcome", "label"), [
    (at_radius("l2", 0.5), "L2 up to 0.5"), (at_radius("l0", 10), "L0 up to 10"),
    (over_radii("l2"), "L2, mean over radii"), (at_radius("l2-apgd", 1.0), "L2 by APGD up to 1"),
    (at_radius("l0-pointwise", 2), "L0 by the pointwise attack up to 2")])
def test_labels_name_norm_and_radius(outcome, label):
    assert norm_label(Outcome.parse(outcome)) == label


def test_curves_leave_single_attacks_means_and_other_attacks_out(accuracy):
    found = curve_lines(accuracy)
    assert found[["model", "norm", "radius"]].values.tolist() == [
        [model, norm, radius] for model in ("at", "tla")
        for norm, radius in (("l2", 0.5), ("l2", 1), ("l0", 1))]


def test_the_facts_list_radii_in_order_and_the_mean_apart(accuracy):
    facts = norm_facts({"accuracy": accuracy})
    assert facts["norms"]["l2"]["radii"] == ["l2_0.5_worst", "l2_1_worst"]
    assert facts["norms"]["l0"]["mean"] == "l0_mean_worst"
    assert facts["at_radius"]["tla", "l2_1_worst"]["accuracy"] == 0.25


def test_medians_of_the_smallest_changes():
    assert distances_line(NORMS) == [
        {"l2_median": 0.5, "l0_median": 1.5, "images": 2, "seeds": 2}]


def test_the_figure_draws_every_model_and_radius_with_its_interval(accuracy):
    lines = curve_lines(accuracy)
    lines["label"] = lines.model.map({"at": "AT", "tla": "TLA"})
    drawn = figures.radius_curves(lines, {"l2": "norm", "l0": "pixels"})
    for axes, norm in zip(drawn.axes, ("l2", "l0"), strict=True):
        assert axes.get_xlabel() == {"l2": "norm", "l0": "pixels"}[norm]
        for curve, model in zip(axes.containers, ("AT", "TLA"), strict=True):
            part = lines[(lines.norm == norm) & (lines.label == model)]
            line, _, (bars,) = curve.lines
            assert line.get_ydata().tolist() == part.accuracy.tolist()
            for bar, low, high in zip(bars.get_segments(), part.low, part.high, strict=True):
                assert bar[:, 1] == pytest.approx([low, high])
    plt.close(drawn)
