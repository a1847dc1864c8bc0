"""What unequal treatment adds to TLA minus AT: the table, its sentences and its figure, by hand."""

import dataclasses
from math import nan

import numpy as np
import pandas as pd
import pytest
from conftest import PARAMS

from tla.report import figures, gain
from tla.report.fill import fill
from tla.report.labels import points
from tla.report.statistics import holm, paired_difference
from tla.report.text import resolved

SEEDS = {"seeds": [0, 1], "changes": {}}
TRAINED = {"fair": {"models": ["at", "tla"], **SEEDS}, "smoothed": {"models": ["tla"], **SEEDS},
           "moved": {"models": ["at"], **SEEDS}}
OUTCOMES = ("pgd-restarts_last", "pgd_100_last", "cw-50_last", "mim-average_last")


def reading(says, tla="fair", at="fair", outcome=OUTCOMES[0], source="authors"):
    return {"says": says, "source": source, "tla": tla, "at": at, "outcome": outcome}


GAIN = {"equal": reading("equal", source="-"),
        "alone": [reading("smoothing", tla="smoothed"), reading("mode", at="moved"),
                  reading("one run", outcome=OUTCOMES[1], source="ours: a reading"),
                  reading("C&W", outcome=OUTCOMES[2]), reading("MIM", outcome=OUTCOMES[3])],
        "together": [reading("all", "smoothed", "moved", OUTCOMES[1]),
                     reading("all, C&W", "smoothed", "moved", OUTCOMES[2])]}


@pytest.fixture
def params(make_params, raw_params, monkeypatch):
    """MNIST's, for which something was published."""
    monkeypatch.chdir(PARAMS.parent)
    attacks = raw_params["evaluate"]["attacks"]
    others = {"evaluate.attacks.cw-50": attacks["cw"], "evaluate.attacks.mim-average":
              attacks["mim"]}
    found = make_params(others | {
        "variants.attacks": dict.fromkeys(["pgd-restarts", "pgd", "cw-50", "mim-average"], 9),
        "variants.trained": TRAINED, "variants.gain": {"mlp": GAIN}})
    return dataclasses.replace(found, data=dataclasses.replace(
        found.data, source="mnist", folds=None))


@pytest.fixture
def rows():
    """Rows at random; of every seed 30 images, whose last ten the long attack did not see."""
    rng, found = np.random.default_rng(0), {}
    for name, variant in TRAINED.items():
        found[name] = {}
        for model in variant["models"]:
            part = pd.DataFrame({"seed": np.repeat([0, 1], 30), "idx": list(range(30)) * 2})
            for outcome in OUTCOMES:
                part[outcome] = (rng.random(60) < 0.8).astype(float)
            found[name][model] = part.assign(**{
                OUTCOMES[0]: part[OUTCOMES[0]].where(part.idx < 20)})
    return found


def difference(rows, tla, at, outcome, images):
    """TLA minus AT, [seeds, images], of the first so many images."""
    found = rows[tla]["tla"][outcome] - rows[at]["at"][outcome]
    return found.to_numpy().reshape(2, 30)[:, :images]


READINGS = [GAIN["equal"], *GAIN["alone"], *GAIN["together"]]


@pytest.mark.parametrize("place", range(len(READINGS)), ids=[each["says"] for each in READINGS])
def test_a_reading_is_tla_of_its_variant_minus_at_of_its_variant(place, params, rows):
    line, said = gain.gain_table(params, rows).iloc[place], READINGS[place]
    images = 20 if said["outcome"] == OUTCOMES[0] else 30
    own = difference(rows, said["tla"], said["at"], said["outcome"], images)
    for name, value in paired_difference(list(own), shared=True).items():
        assert line[name] == pytest.approx(value)
    assert (line.says, line.source, line.images) == (said["says"], said["source"], images)


@pytest.mark.parametrize("place", range(1, len(READINGS)))
def test_what_it_adds_is_paired_with_equal_treatment_on_the_images_of_both(place, params, rows):
    """A treatment under its own attack; an attack of the same networks against the first attack."""
    line, said = gain.gain_table(params, rows).iloc[place], READINGS[place]
    trained = said["tla"] != "fair" or said["at"] != "fair"
    under, images = said["outcome"] if trained else OUTCOMES[0], 30
    if OUTCOMES[0] in (said["outcome"], under):
        images = 20
    own = difference(rows, said["tla"], said["at"], said["outcome"], images)
    added = own - difference(rows, "fair", "fair", under, images)
    by_hand = paired_difference(list(added), shared=True)
    assert line.added == pytest.approx(by_hand["difference"])
    assert (line.added_low, line.added_high, line.added_p) == pytest.approx(
        (by_hand["low"], by_hand["high"], by_hand["p"]))


def test_where_a_switch_is_of_tla_alone_what_it_adds_is_its_own_gain(params, rows):
    table = gain.gain_table(params, rows).set_index("says")
    smoothed, fair = (rows[name]["tla"][OUTCOMES[0]].mean() for name in ("smoothed", "fair"))
    assert table.added["smoothing"] == pytest.approx(smoothed - fair)
    moved, fair = (rows[name]["at"][OUTCOMES[0]].mean() for name in ("moved", "fair"))
    assert table.added["mode"] == pytest.approx(fair - moved)


def test_equal_treatment_adds_nothing_to_itself(params, rows):
    table = gain.gain_table(params, rows)
    assert table.filter(like="added").iloc[0].isna().all()
    assert table.kind.tolist() == ["equal", *["alone"] * 5, *["together"] * 2]


def test_holm_corrects_for_the_readings_that_stand_alone(params, rows):
    table = gain.gain_table(params, rows)
    alone = table[table.kind == "alone"]
    assert alone.added_holm.tolist() == pytest.approx(holm(alone.added_p.tolist()))
    assert table.added_holm[table.kind != "alone"].isna().all()


def test_each_network_has_an_equal_treatment_and_a_correction_of_its_own(params, rows):
    one = params.variants.gain["mlp"]
    two = dataclasses.replace(one, equal=one.together[0])

    def table(**networks):
        variants = dataclasses.replace(params.variants, gain=networks)
        return gain.gain_table(dataclasses.replace(params, variants=variants), rows)
    alone = [table(one=one), table(two=two)]
    assert table(one=one, two=two).equals(pd.concat(alone))
    assert (alone[0].added[1:] != alone[1].added[1:]).all()
    facts = gain.gain_facts(table(one=one, two=two))
    assert {name: facts[name]["equal"]["says"] for name in facts} == {"one": "equal", "two": "all"}


def test_the_published_gain_is_that_under_the_same_attack(params, rows):
    """Poster: PGD in its text; C&W 97.25 to 96.64 and MIM 96.64 to 95.47 in its bars."""
    table = gain.gain_table(params, rows)
    pgd, cw, mim = 0.0292, 0.0061, 0.0117
    assert table.published.tolist() == pytest.approx([pgd, pgd, pgd, pgd, cw, mim, pgd, cw])


# What the report says

def table_of(**changes):
    """A table in which only `mode` adds something, by line; `changes` are its other values."""
    lines = []
    for kind, said in zip(["equal", *["alone"] * 5, *["together"] * 2], READINGS, strict=True):
        line = {"network": "mlp", "kind": kind, "says": said["says"], "source": said["source"],
                "outcome": said["outcome"],
                "published": 0.0292, "difference": 0.004, "low": -0.001, "high": 0.009,
                "images": 1000, "seeds": 5, "added": 0.0, "added_low": -0.01, "added_high": 0.01,
                "added_holm": 1.0 if kind == "alone" else nan}
        lines.append(line | changes.get(said["says"], {}))
    lines[0] |= {"added": nan, "added_low": nan, "added_high": nan}
    return pd.DataFrame(lines)


def section(params, table):
    """The section of REPORT.md on the gain, in one line."""
    text = (PARAMS.parent / "stages" / "report.md").read_text()
    template = text[:text.index("# {{ params.dataset }}")] + text[
        text.index("{% if gain %}"):text.index("{% if pilot %}")]
    filters = {"points": points, "comma": "{:,}".format, "resolved": resolved, "added": gain.added,
               "percent": str, "label": str, "attack": str, "outcome": str}
    filled = fill(template, filters, params=params, tables={"accuracy": [{"images": 1}]},
                  gain=gain.gain_facts(table), pilot=None)
    return " ".join(filled.split())


def test_the_sentences_name_what_adds_and_what_still_does_after_correction(params):
    up = {"added": 0.01, "added_low": 0.002, "added_high": 0.018}
    text = section(params, table_of(mode=up, MIM=up | {"added_holm": 0.01}))
    assert "*adds* excludes zero for: mode; MIM." in text
    assert "correction over all single lines, those of attacks too: MIM." in text
    down = {"added": -0.01, "added_low": -0.018, "added_high": -0.002}
    assert "*adds* excludes zero for: MIM." in section(params, table_of(MIM=down))
    text = section(params, table_of())
    assert "excludes zero for: none." in text and "attacks too: none." in text


@pytest.mark.parametrize(("every", "checkpoints"), [(1, 6), (3, 2), (4, 2), (6, 1)])
def test_a_treatment_that_changes_no_network_is_named(every, checkpoints, make_params):
    """Every fourth epoch of six, and the last, are two."""
    params = make_params({"train.epochs": 6, "train.validate_every": every})
    text = section(params, table_of(mode={"added_low": 0.0, "added_high": 0.0}))
    assert f"equal treatment, of the {checkpoints} that are looked at" in text
    assert "the very same networks and says nothing of other schedules: mode." in text
    assert "very same networks" not in section(params, table_of())


def test_what_is_left_of_the_published_gain_is_said_with_its_interval(params):
    every = {"difference": 0.02, "low": 0.01, "high": 0.04, "added": 0.016, "added_low": 0.01,
             "added_high": 0.02}
    text = section(params, table_of(all=every))
    assert "Equal treatment gives +0.4 [-0.1, +0.9] points under pgd-restarts_last;" in text
    assert ("(all) +2.0 [+1.0, +4.0]: unequal treatment adds +1.6 [+1.0, +2.0], under "
            "pgd_100_last.") in text
    assert ("leaves +0.9 [-1.1, +1.9] of the published +2.92 points, taken as exact, to other "
            "reasons, which the interval does not tell from none") in text
    text = section(params, table_of(all=every | {"high": 0.025}))
    assert "leaves +0.9 [+0.4, +1.9]" in text and "tell from none" not in text
    same_attack = table_of(**{"all, C&W": every | {"outcome": OUTCOMES[0]}})
    said = "(all, C&W) +2.0 [+1.0, +4.0]: unequal treatment adds +1.6 [+1.0, +2.0]. That leaves"
    assert said in section(params, same_attack)
    behind = table_of(all=every | {"difference": -0.001})
    assert "leaves" not in section(params, behind), "more than all of it is left"


def test_what_is_ours_and_not_the_authors_is_named(params):
    text = section(params, table_of())
    assert "from the authors' code is what it does, but for: one run." in text
    assert "| one run | ours: a reading | +0.4 [-0.1, +0.9] | +2.92 |" in text


def test_without_a_published_number_none_is_named(params):
    none = {said["says"]: {"published": nan} for said in READINGS}
    text = section(params, table_of(**none))
    assert "of the published" not in text and "nan" not in text
    assert "| equal | - | +0.4 [-0.1, +0.9] | – | – | – |" in text


def test_the_figure_has_a_line_a_reading_and_the_published_gains():
    table = table_of(mode={"added": 0.01})
    levels, added = figures.gain_forest(table).axes
    assert levels.containers[0].lines[0].get_xdata() == pytest.approx([0.4] * 8)
    assert added.containers[0].lines[0].get_xdata()[1:3] == pytest.approx([0.0, 1.0])
    diamonds = next(line for line in levels.lines if line.get_marker() == "D")
    assert diamonds.get_xdata() == pytest.approx([2.92] * 8)
    assert [text.get_text() for text in levels.texts] == [said["says"] for said in READINGS]
    said = [text.get_text() for text in levels.figure.legends[0].texts]
    assert said == ["published under this attack", "ours", "published for the first line"]


def test_the_figure_names_no_published_gain_of_pgd_where_there_is_none():
    none = {said["says"]: {"published": nan} for said in READINGS}
    figure = figures.gain_forest(table_of(**none))
    said = [text.get_text() for text in figure.legends[0].texts]
    assert "published for the first line" not in said
