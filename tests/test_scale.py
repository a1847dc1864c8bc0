"""Differences against the compute of training: tables, trends and what the report says, by hand."""

import dataclasses
from math import nan

import numpy as np
import pandas as pd
import pytest
from conftest import PARAMS

from tla.report import figures, scale
from tla.report.fill import fill
from tla.report.labels import percent, points
from tla.report.statistics import paired_difference
from tla.report.text import attack_of, pilot, pilot_lines, resolved

OUTCOME = "pgd-restarts_last"
NAMES = ("half", "study", "twice", "long")
COMPUTE = {"half": 1e3, "study": 1e4, "twice": 1e5, "long": 1e6}
TRAINED = {name: {"models": ["at", "alp", "tla"], "seeds": [0, 1], "changes": {}}
           for name in NAMES}
LABELS = {"at": "AT", "alp": "ALP", "tla": "TLA"}


@pytest.fixture
def params(make_params, monkeypatch):
    """MNIST's, for which something was published."""
    monkeypatch.chdir(PARAMS.parent)
    found = make_params({
        "variants.attacks": {"pgd-restarts": 20}, "variants.trained": TRAINED,
        "variants.scale": {"outcome": OUTCOME, "authors": 5e7,
                           "series": {"width": ["half", "study", "twice"],
                                      "epochs": ["study", "long"]}}})
    return dataclasses.replace(found, data=dataclasses.replace(
        found.data, source="mnist", folds=None))


def rows_of(outcomes):
    """Rows of a model under two seeds that share their images."""
    images = len(outcomes) // 2
    return pd.DataFrame({"seed": np.repeat([0, 1], images), "idx": list(range(images)) * 2,
                         OUTCOME: np.asarray(outcomes, float)})


def random_rows(seed):
    """Rows of every variant and model at random."""
    rng = np.random.default_rng(seed)
    return {name: {model: rows_of(rng.random(40) < 0.8) for model in LABELS} for name in NAMES}


def costs():
    """Each variant's amount of compute as TLA's; AT's is another."""
    found = {}
    for name, amount in COMPUTE.items():
        found[name] = pd.DataFrame({"model": ["at", "tla"], "images": 5, "forward": [1, 6],
                                    "backward": [1, 4], "steps": 10,
                                    "multiply_adds": int(amount / 100)})
    return found


def test_compute_counts_every_pass_of_every_step():
    cost = pd.DataFrame({"model": ["at", "tla"], "images": 5, "forward": [40, 60],
                         "backward": [30, 50], "steps": 7, "multiply_adds": 1000})
    assert scale.computed(cost, "tla") == (60 + 50) * 7 * 1000
    assert scale.computed(cost, "at") == (40 + 30) * 7 * 1000


def test_a_line_is_the_paired_difference_of_a_variant_under_the_outcome(params):
    rows = random_rows(0)
    table = scale.scale_table(params, rows, costs())
    assert list(zip(table.series, table.variant, table.baseline, strict=True)) == [
        (series, name, baseline)
        for series, names in (("epochs", ("study", "long")), ("width", NAMES[:3]))
        for name in names for baseline in ("at", "alp")]
    assert table.compute.tolist() == [COMPUTE[name] for name in table.variant]
    for line in table.to_dict("records"):
        own = rows[line["variant"]]
        gain = (own["tla"][OUTCOME] - own[line["baseline"]][OUTCOME]).to_numpy().reshape(2, 20)
        by_hand = paired_difference(list(gain), shared=True)
        assert {name: line[name] for name in by_hand} == pytest.approx(by_hand)
        assert (line["images"], line["seeds"]) == (20, 2)
        assert line["accuracy"] == own["tla"][OUTCOME].mean()
        assert line["baseline_accuracy"] == own[line["baseline"]][OUTCOME].mean()


def test_rows_of_other_images_are_not_compared(params):
    rows = random_rows(0)
    rows["half"]["at"] = rows["half"]["at"].assign(idx=range(40))
    with pytest.raises(ValueError, match="not of the same images"):
        scale.scale_table(params, rows, costs())


@pytest.mark.parametrize("compute", [[10, 100], [10, 100, 1000], [3, 50, 7, 2]], ids=str)
def test_the_weights_of_a_slope_find_that_of_a_line(compute):
    values = 4 + 0.3 * np.log10(compute)
    assert scale.slope_weights(compute) @ values == pytest.approx(0.3)


def test_a_trend_is_the_slope_of_each_image_and_seed(params):
    """Over `study` and `long`, two powers of ten apart, it is half of their difference."""
    rows = random_rows(1)
    table = scale.trend_table(params, rows, costs()).set_index(["series", "baseline"])
    gains = {name: rows[name]["tla"][OUTCOME] - rows[name]["alp"][OUTCOME] for name in NAMES}
    by_hand = ((gains["long"] - gains["study"]) / 2).to_numpy().reshape(2, 20)
    line = table.loc["epochs", "alp"]
    for name, value in paired_difference(list(by_hand), shared=True).items():
        assert line[name] == pytest.approx(value)
    # Three in a row, a power of ten apart each: the middle one has no weight.
    by_hand = ((gains["twice"] - gains["half"]) / 2).to_numpy()
    assert table.loc["width", "alp"].difference == pytest.approx(by_hand.mean())


def test_every_accuracy_of_every_variant_stands_in_a_table():
    rows = random_rows(0)
    made = costs()
    for name, cost in made.items():
        made[name] = pd.concat([cost, cost[:1].assign(model="alp")])
    table = scale.accuracy_table(rows, made)
    assert len(table) == 4 * 3
    assert list(table)[:4] == ["variant", "model", "compute", "outcome"]
    line = table[(table.variant == "twice") & (table.model == "alp")].iloc[0]
    assert line.accuracy == rows["twice"]["alp"][OUTCOME].mean()
    assert line.compute == scale.computed(made["twice"], "alp")


# What the report says

def table_of(intervals):
    """Lines of `scale` with these intervals, by variant and baseline."""
    lines = []
    for series, name in [("width", name) for name in NAMES[:3]] + [
            ("epochs", "study"), ("epochs", "long")]:
        for baseline in ("at", "alp"):
            low, high = intervals.get((name, baseline), (-0.01, 0.05))
            lines.append({"series": series, "variant": name, "baseline": baseline,
                          "compute": COMPUTE[name], "accuracy": 0.92, "baseline_accuracy": 0.9,
                          "difference": (low + high) / 2, "low": low, "high": high,
                          "images": 1000, "seeds": 3})
    return pd.DataFrame(lines)


def trends_of(rising=()):
    lines = []
    for series in ("width", "epochs"):
        for baseline in ("at", "alp"):
            low = 0.001 if (series, baseline) in rising else -0.002
            lines.append({"series": series, "baseline": baseline, "difference": low + 0.003,
                          "low": low, "high": low + 0.006})
    return pd.DataFrame(lines)


def section(params, lines, trends):
    """The section of REPORT.md on scale, in one line a paragraph."""
    text = (PARAMS.parent / "stages" / "report.md").read_text()
    template = text[:text.index("# {{ params.dataset }}")] + text[
        text.index("{% if scale %}"):text.index("{% if gain %}")]
    filters = {"points": points, "percent": percent, "comma": "{:,}".format, "resolved": resolved,
               "label": LABELS.get, "attack": attack_of}
    filled = fill(template, filters, params=params, tables={"accuracy": [{"images": 1}]},
                  scale=scale.scale_facts(params, lines, trends))
    return " ".join(filled.split())


def test_a_variant_of_two_series_counts_once(params):
    text = section(params, table_of({}), trends_of())
    assert text.count("| study |") == 1
    assert "above zero in 0 of 4 variants, below in 0" in text


def test_the_sentences_count_what_the_intervals_resolve(params):
    """Published: 2.92 points over AT, 1.86 over ALP."""
    intervals = {("half", "at"): (0.001, 0.02), ("study", "at"): (0.001, 0.05),
                 ("twice", "at"): (0.03, 0.04), ("half", "alp"): (-0.03, -0.01)}
    text = section(params, table_of(intervals), trends_of())
    at, alp = text.index("**TLA against AT**"), text.index("**TLA against ALP**")
    assert "above zero in 3 of 4 variants, below in 0" in text[at:alp]
    assert "The published +2.92 points are above the interval in 1, below it in 1." in text[at:alp]
    assert "above zero in 0 of 4 variants, below in 1" in text[alp:]
    assert "The published +1.86 points are above the interval in 1, below it in 0." in text[alp:]


def test_the_table_shows_the_differences_of_each_variant(params):
    text = section(params, table_of({("half", "at"): (0.01, 0.03)}), trends_of())
    assert ("| half | 1e-09 | 90.0 | 92.0 | +2.0 [+1.0, +3.0] | yes, higher | "
            "+2.0 [-1.0, +5.0] | no |") in text


@pytest.mark.parametrize("rising", [(), [("epochs", "at")], [("width", "alp"), ("epochs", "at")]])
def test_what_is_said_of_the_authors_network_follows_from_the_trends(rising, params):
    trends = trends_of(rising)
    trends.loc[2, "high"] = 0.009
    text = section(params, table_of({}), trends)
    assert "span a factor of 1e+03 in compute, and training TLA with the authors' network" in text
    assert "and steps takes 50" in text
    nothing = ("no difference grows with compute beyond its interval; but these reach up to +0.9 "
               "points per tenfold compute")
    assert (nothing in text) == (not rising)
    assert ("would be no surprise" in text) == bool(rising)
    for series, baseline in rising:
        assert f"TLA against {LABELS[baseline]}, {series}" in text
    assert text.count("(excludes 0: yes, higher)") == len(rising)


def test_without_a_published_number_or_the_authors_compute_none_is_named(params):
    variants = dataclasses.replace(params.variants, scale=dataclasses.replace(
        params.variants.scale, authors=None))
    digits = dataclasses.replace(params, variants=variants, data=dataclasses.replace(
        params.data, source="digits", folds=5))
    text = section(digits, table_of({}), trends_of())
    assert "published" not in text and "takes" not in text and "nan" not in text


@pytest.mark.parametrize("published", [{"AT": 0.0292, "ALP": 0.0186}, {"AT": nan, "ALP": nan}])
def test_the_figure_has_a_panel_a_baseline_and_a_point_a_variant(published):
    lines = table_of({}).assign(label=lambda table: table.baseline.map(LABELS))
    drawn = figures.scale_curves(lines, published)
    panels = drawn.axes
    assert [axes.get_title() for axes in panels] == ["TLA − AT", "TLA − ALP"]
    for axes, value in zip(panels, published.values(), strict=True):
        dashed = next(line for line in axes.lines if line.get_linestyle() == "--")
        assert dashed.get_ydata()[0] == pytest.approx(100 * value, nan_ok=True)
        assert len(axes.containers) == 2 and axes.get_xscale() == "log"
        width = axes.containers[0].lines[0]
        assert width.get_xdata() == pytest.approx([1e-9, 1e-8, 1e-7])
        assert width.get_ydata() == pytest.approx([2.0] * 3)
    said = [text.get_text() for text in drawn.legends[0].texts]
    assert ("published" in said) == all(value == value for value in published.values())
    assert said[-2].startswith("width: ") and len(said[-2].split(", ")) == 3


def test_a_pilot_has_a_line_a_recipe_with_what_it_changes(params):
    """In a study whose variants are attacked on validation images, and in no other."""
    trained = {"short": dataclasses.replace(params.variants.trained["study"], changes={}),
               "wide": dataclasses.replace(params.variants.trained["study"],
                                           changes={"model.widths": [8, 4], "attack.steps": 3})}
    tried = dataclasses.replace(params, variants=dataclasses.replace(
        params.variants, part="validation", trained=trained, scale=None))
    table = pd.DataFrame([
        {"variant": name, "model": "at", "compute": 2e12, "outcome": outcome, "accuracy": value,
         "images": 1000, "seeds": 1}
        for name in trained for outcome, value in (("clean", 0.75), ("pgd-restarts_last", 0.25))])
    assert pilot(tried) and not pilot(params)
    text = (PARAMS.parent / "stages" / "report.md").read_text()
    template = text[text.index("{% if pilot %}"):text.index("## AutoAttack")]
    filters = {"label": LABELS.get, "outcome": str, "percent": percent, "comma": "{:,}".format}
    text = fill(template, filters, pilot=pilot_lines(tried, table), params=tried)
    assert "on 1,000 validation images, those that picked" in text
    assert "and 1 training seed." in text
    assert "| short | nothing | AT | 2 | 75.0 | 25.0 |" in text
    assert "| wide | model.widths: [8, 4], attack.steps: 3 | AT | 2 | 75.0 | 25.0 |" in text
