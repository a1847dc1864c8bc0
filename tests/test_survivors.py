"""Who survives what: counts by loops over rows, and which images are kept to be looked at."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tla.files import write_arrays
from tla.measure.pictures import read_tiles
from tla.report.survivors import (
    examples,
    survived,
    survivors_table,
    write_examples,
)
from tla.report.tables import counted_outcome

PGD = "pgd-restarts_last"
SEEDS = (0, 1)


@pytest.fixture
def few(params):
    """Parameters with two attacks and two images a pair."""
    attacks = {name: params.evaluate.attacks[name] for name in ("pgd", "pgd-restarts", "square")}
    evaluate = replace(params.evaluate)
    object.__setattr__(evaluate, "attacks", attacks)
    return replace(params, evaluate=evaluate, compare=replace(params.compare, examples=2))


def suite(rng, models):
    """Random outcomes of 40 images on two seeds; Square saw the second seed."""
    found, n = {}, 40
    for model in models:
        rows = pd.DataFrame({"seed": np.repeat(SEEDS, n), "idx": np.tile(np.arange(n), 2)})
        for outcome in ("clean", "pgd_2000_last", PGD, "square_worst", "white-box", "robust"):
            rows[outcome] = (rng.random(2 * n) < 0.6).astype(float)
        for outcome in ("square_worst", "robust"):
            rows.loc[rows.seed == 0, outcome] = np.nan
        found[model] = rows
    return found


def test_the_outcome_of_an_attack_is_that_of_its_largest_budget_after_the_last_step(params):
    assert counted_outcome(params, "pgd") == "pgd_2000_last"
    assert counted_outcome(params, "cw") == "cw_last"
    assert counted_outcome(params, "square") == "square_worst"


def test_a_stochastic_model_survives_in_most_draws():
    rows = pd.DataFrame({PGD: [0.0, 0.5, 0.55, 1.0, np.nan]})
    found = survived(rows, PGD)
    assert found[:4].tolist() == [0, 0, 1, 1] and np.isnan(found[4])


def test_survivors_by_loops_over_the_rows(few):
    rows = suite(np.random.default_rng(0), ["um", "at", "tla"])
    table = survivors_table(rows, few)
    assert table.outcome.unique().tolist() == [
        "clean", "pgd_2000_last", PGD, "square_worst", "white-box", "robust"]
    assert len(table) == 3 * 6
    for line in table.to_dict("records"):
        found = {"both": 0, "model_only": 0, "other_only": 0, "neither": 0}
        for (_, a), (_, b) in zip(rows[line["model"]].iterrows(), rows[line["other"]].iterrows(),
                                  strict=True):
            left = a[line["outcome"]], b[line["outcome"]]
            if not np.isnan(left[0]):
                name = {(1, 1): "both", (1, 0): "model_only", (0, 1): "other_only",
                        (0, 0): "neither"}[left]
                found[name] += 1
        assert found == {name: line[name] for name in found}
        seen = 40 if line["outcome"] in ("square_worst", "robust") else 80
        assert sum(found.values()) == seen


def kept(rows, rng, most=100):
    """What evaluate keeps of the images of the first seed that a model lost."""
    lost = rows.idx[(rows.seed == 0) & (rows[PGD] == 0)].to_numpy()[:most]
    tiles = rng.integers(0, 256, (2, len(lost), 1, 8, 8), dtype=np.uint8)
    return {"idx": lost, "label": lost % 10, "pred": (lost + 1) % 10, "x": tiles[0],
            "x_adv": tiles[1]}


def test_examples_are_the_first_images_of_each_pair_that_one_survives_and_the_other_lost(few):
    rng = np.random.default_rng(1)
    rows = suite(rng, ["um", "at", "tla"])
    broken = {model: kept(own, rng) for model, own in rows.items()}
    table = examples(rows, broken, few)
    alive = {model: set(own.idx[(own.seed == 0) & (own[PGD] == 1)]) for model, own in rows.items()}
    for model in rows:
        expected = set()
        for other in rows:
            found = [idx for idx in broken[model]["idx"]
                     if idx in alive[other] and idx not in alive[model]]
            expected.update(found[:2])
        part = table[table.model == model]
        assert part.idx.tolist() == sorted(expected) and 2 <= len(expected) <= 4
        for line in part.itertuples():
            assert (line.label, line.pred) == (line.idx % 10, (line.idx + 1) % 10)
            assert line.survived_by.split() == [m for m in rows if line.idx in alive[m]]


def test_a_picture_has_the_clean_and_the_adversarial_image_of_each_line(few, tmp_path):
    rng = np.random.default_rng(2)
    rows = suite(rng, ["um", "at"])
    rows["um"][PGD] = 1.0       # survives everything: no picture
    broken = {model: kept(own, rng) for model, own in rows.items()}
    for model, arrays in broken.items():
        write_arrays(tmp_path / model / "broken.npz", arrays)
    write_examples(tmp_path / "examples", rows, tmp_path, few)
    table = pd.read_csv(tmp_path / "examples" / "examples.csv")
    assert list(table) == ["model", "idx", "label", "pred", "survived_by"]
    assert sorted(path.name for path in (tmp_path / "examples").iterdir()) == [
        "at.png", "examples.csv"]
    tiles = read_tiles(tmp_path / "examples" / "at.png", len(table), 2)
    for tile, idx in zip(tiles, table.idx, strict=True):
        place = broken["at"]["idx"].tolist().index(idx)
        assert (tile[0] == broken["at"]["x"][place, 0]).all()
        assert (tile[1] == broken["at"]["x_adv"][place, 0]).all()
