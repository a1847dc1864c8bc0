"""Figures show the numbers that they are given, and nothing that has none."""

import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from committed import ROOT, STUDIES
from matplotlib import pyplot as plt
from matplotlib.text import Text

from claims import AXES, drawn_lines
from report import draw_trials, drawings
from tla.files import read_csv
from tla.report import figures
from tla.report.figures import CLASSES, LOOKS, STYLE, SWEEP
from tla.report.hypotheses import load_summary
from tla.report.labels import class_names
from tla.report.pairs import pools
from tla.report.text import read_tables
from tla.report.tuning import read_trials, winners
from tla.train.methods import load_study

HEADS = {"clean": "clean\n80 images", "cw_last": "C&W\n20 images"}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def values(models, name, rng):
    """A table of every model under every outcome of HEADS, with an interval of one to each side."""
    lines = [{"label": model, "outcome": outcome, name: rng.uniform(50, 90)}
             for model in models for outcome in HEADS]
    table = pd.DataFrame(lines)
    return table.assign(low=table[name] - 1, high=table[name] + 1)


def points(axes):
    """What is drawn on axes without a line: (colour, filled, [(x, y)])."""
    found = []
    for line in axes.lines:
        if line.get_linestyle() == "None" and line.get_marker() != "None":
            xy = [(x, y) for x, y in zip(*line.get_data(), strict=True) if not np.isnan(x)]
            hollow = line.get_markerfacecolor() == "white"
            found.append((line.get_markeredgecolor() if hollow else line.get_color(), hollow, xy))
    return found


def test_dots_stand_at_the_accuracies_and_beside_them_the_differences_to_the_baseline():
    rng, models = np.random.default_rng(0), ["AT", "TRADES", "TLA"]
    accuracy = values(models, "accuracy", rng)
    differences = values(models[1:], "difference", rng)
    published = pd.DataFrame({"model": ["AT", "TLA"], "outcome": "cw_last", "value": [70.0, 73.0]})
    left, right = figures.accuracy_dots(accuracy, differences, published, HEADS, "AT").axes
    for axes, table, name, theirs in ((left, accuracy, "accuracy", {"AT": 70, "TLA": 73}),
                                      (right, differences, "difference", {"TLA": 3})):
        drawn = points(axes)
        for model in table.label.unique():
            colour = STYLE[model][0]
            (ours,) = [xy for c, hollow, xy in drawn if c == colour and not hollow]
            part = table[table.label == model]
            assert [x for x, _ in ours] == pytest.approx(part[name].tolist())
            said = [x for c, hollow, xy in drawn if c == colour and hollow for x, _ in xy]
            assert said == ([theirs[model]] if model in theirs else [])
            assert [round(y) for _, y in ours] == [0, 1], "in the band of its attack"
    assert [text.get_text() for text in left.get_yticklabels()] == list(HEADS.values())
    assert left.get_ylim() == (1.5, -0.5), "the first attack stands on top"


def test_no_two_models_look_alike_and_no_two_classes_have_one_colour():
    assert len(set(STYLE.values())) == len({c for c, _ in STYLE.values()}) == len(STYLE)
    assert len({marker for _, marker in STYLE.values()}) == len(STYLE)
    assert len(set(CLASSES)) == 10


def test_no_colour_that_means_something_is_black_which_a_dark_page_turns():
    meant = {*CLASSES, *(colour for colour, _ in (*STYLE.values(), *SWEEP, *LOOKS.values()))}
    assert "#000000" not in meant and "black" not in meant


def roc(labels):
    """Curves of some models, and areas of these and of UM, which has none."""
    curves = pd.concat([pd.DataFrame({"label": label, "task": "t", "score": "s",
                                      "fpr": [0.0, 1.0], "tpr": [0.0, 1.0]}) for label in labels]
                       or [pd.DataFrame(columns=["label", "task", "score", "fpr", "tpr"])])
    areas = pd.DataFrame({"label": ["UM", *labels], "task": "t", "score": "s",
                          "auc": [np.nan, *[0.75] * len(labels)]})
    return figures.roc_curves(curves, areas, {"t": "task"}, {"s": "score"}, "")


def panels(monkeypatch):
    """roc_curves draws grids; of one panel matplotlib would give no grid."""
    subplots = plt.subplots
    monkeypatch.setattr(plt, "subplots", lambda *a, **k: subplots(*a, **k | {"squeeze": False}))


def test_a_model_without_a_curve_is_not_in_the_legend_of_a_roc(monkeypatch):
    panels(monkeypatch)
    (axes,) = roc(["AT", "TLA"]).axes
    assert [text.get_text() for text in axes.get_legend().texts] == ["AT 0.750", "TLA 0.750"]
    (axes,) = roc([]).axes
    assert axes.get_legend() is None and axes.texts[0].get_text() == "undefined for all"


def claim_lines(**changes):
    return pd.DataFrame({
        "panel": ["accuracy", "accuracy", "AUC"], "label": ["C1", "C2", "C3"],
        "published": [1.0, 2.0, 30.0], "ours": [0.5, -1.0, 20.0], "low": [0.0, -2.0, 10.0],
        "high": [1.0, 0.0, 40.0], "verdict": ["confirmed", "not resolved", "contradicted"]}
        | changes)


def test_accuracy_and_auc_have_axes_of_their_own():
    accuracy, auc = figures.claim_forest(claim_lines()).axes
    assert accuracy.get_xlim()[1] < 5 < auc.get_xlim()[1]
    assert accuracy.get_xlabel().startswith("accuracy") and auc.get_xlabel().startswith("AUC")
    assert [text.get_text() for text in accuracy.texts] == ["C1", "C2"]


def test_an_undefined_claim_says_so():
    lines = claim_lines(verdict=["confirmed", "undefined", "confirmed"], ours=[0.5, np.nan, 20.0])
    accuracy, _ = figures.claim_forest(lines).axes
    assert [text.get_text() for text in accuracy.texts] == ["C1", "C2 (ours: undefined)"]


def plane(scale):
    """A margin that is -4 x scale at the image and 0 where the step along the gradient is 0.2."""
    steps = np.linspace(-0.3, 0.3, 7)
    gradient, random = (axis.ravel() for axis in np.meshgrid(steps, steps))
    return pd.DataFrame({"idx": 5, "gradient": gradient, "random": random,
                         "margin": scale * (20 * gradient - 4)})


def test_loss_surfaces_are_the_same_however_a_network_scales_its_logits():
    figure = figures.loss_surfaces({"AT": plane(1.0), "TLA": plane(100.0)})
    first, second = (axes.collections for axes in figure.axes[:2])
    for a, b in zip(first, second, strict=True):
        if a.get_array() is not None:
            assert np.asarray(a.get_array()) == pytest.approx(np.asarray(b.get_array()))
        for one, other in zip(a.get_paths(), b.get_paths(), strict=True):
            assert one.vertices == pytest.approx(other.vertices)


def maps(n=400):
    """t-SNE points of three classes, clean and adversarial."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({"kind": np.repeat(["clean", "adv"], n), "idx": np.tile(np.arange(n), 2),
                         "label": np.tile(np.arange(n) % 3, 2), "x": rng.normal(size=2 * n),
                         "y": rng.normal(size=2 * n)})


def test_tsne_maps_show_clean_and_adversarial_points_apart_in_the_colour_of_their_class():
    table = maps()
    figure = figures.tsne_maps({"AT": table, "TLA": table}, ["0", "1", "2"])
    assert len(figure.axes) == 4 and figure.get_supxlabel() == ""
    for axes, kind in zip(figure.axes, ("clean", "clean", "adv", "adv"), strict=True):
        part, (drawn,) = table[table.kind == kind], axes.collections
        assert (drawn.get_offsets() == part[["x", "y"]].to_numpy()).all()
        assert [tuple(c) for c in drawn.get_facecolors()[:3, :3]] == [
            plt.matplotlib.colors.to_rgb(CLASSES[label]) for label in part.label[:3]]
        assert [text.get_text() for text in axes.texts] == ["0", "1", "2"]
        places = np.array([text.get_position() for text in axes.texts])
        clean = table.loc[table.kind == "clean", ["x", "y"]]
        for one, other in combinations(places, 2):    # whose middles are the same
            assert (np.abs(one - other) > figures.CLEAR * np.ptp(clean, axis=0)).any()
        assert np.abs(places).max() < 1.5


def test_classes_that_are_no_numbers_are_named_below_a_map():
    figure = figures.tsne_maps({"AT": maps()}, ["plane", "car", "bird"])
    assert figure.get_supxlabel() == "0 plane, 1 car, 2 bird"


def test_a_tsne_map_is_a_picture_whatever_the_number_of_points(tmp_path):
    figures.save(figures.tsne_maps({"AT": maps(30_000)}, ["0", "1", "2"]), tmp_path, "tsne")
    text = (tmp_path / "tsne.svg").read_text()
    assert len(re.findall("<image", text)) == 2 and len(text) < 2e6
    assert len(re.findall("<use", text)) < 100
    # Numbers are text, which a dark page turns; as outlines they would stay black on it.
    assert len(re.findall(">[012]</text>", text)) == 6


def test_a_query_stands_clean_and_attacked_before_what_it_retrieves():
    tiles = np.arange(2 * 4 * 9, dtype=float).reshape(2, 4, 3, 3)
    captions = pd.DataFrame({"query": [3, 5], "predicted": [8, 5], "retrieved_1": [3, 5],
                             "retrieved_2": [8, 5]})
    figure = figures.neighbor_grid({"AT": tiles, "TLA": tiles},
                                   {"AT": captions, "TLA": captions},
                                   class_names("cifar10", 10))
    axes = figure.axes[0]
    said = [text.get_text() for text in axes.texts]
    assert said == ["cat", "as ship", "cat ✓", "ship ✗", "dog", "as dog", "dog ✓", "dog ✓"]
    for image, tile in zip(axes.images, tiles.reshape(-1, 3, 3), strict=True):
        assert (np.asarray(image.get_array()) == tile).all()


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, by name, instead of being saved and closed."""
    found = {}
    monkeypatch.setattr(figures, "save", lambda figure, _, name: found.update({name: figure}))
    return found


def is_cut_off(figure):
    """Whether something reaches beyond the figure by more than a point."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return min(box.x0, box.y0, width - box.x1, height - box.y1) < -1 / 72


def overlaps(figure):
    """Pairs of texts of which one stands on the other."""
    unseen, found = beyond_axes(figure), []
    texts = [text for text in figure.findobj(Text)
             if text.get_text().strip() and text.get_visible() and text not in unseen]
    for one, other in combinations(texts, 2):
        a, b = one.get_window_extent(), other.get_window_extent()
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if min(wide, high) > 1:
            found.append((one.get_text(), other.get_text()))
    return found


def beyond_axes(figure):
    """Labels of ticks out of view, which matplotlib keeps and does not draw."""
    found = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            found += [tick.label1 for tick in axis.get_major_ticks()
                      if not low <= tick.get_loc() <= high]
    return found


@pytest.mark.parametrize("study", STUDIES)
def test_no_figure_of_a_study_is_cut_off_or_has_texts_on_each_other(
        study, drawn, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    params = load_study(study)
    for draw in drawings(tmp_path, params, read_tables(params)):
        draw()
    assert {"accuracy", "accuracy-brief", "norms", "neighbors", "tsne"} <= set(drawn)
    assert ("pool-sweep" in drawn) == (len(pools(params)) > 1)
    for name, figure in drawn.items():
        assert not is_cut_off(figure), name
        assert overlaps(figure) == [], name


def test_the_figure_of_the_claims_is_not_cut_off_and_has_no_texts_on_each_other():
    table = read_csv(ROOT / "reports" / "claims.csv")
    lines = drawn_lines(table, load_summary(ROOT / "experiments" / "summary" / "params.yaml"))
    assert lines.claim.is_unique and lines.panel.isin(set(AXES.values())).all()
    figure = figures.claim_forest(lines)
    assert not is_cut_off(figure) and overlaps(figure) == []


def scale_lines(spans):
    """TLA minus two baselines in as many variants as there are spans of compute, in a series."""
    return pd.DataFrame([
        {"label": label, "series": "width", "variant": f"width-{n}", "compute": span,
         "difference": 0.001 * n, "low": 0.001 * n - 0.01, "high": 0.001 * n + 0.01}
        for label in ("AT", "ALP") for n, span in enumerate(spans)])


@pytest.mark.parametrize("spans", [(2e12, 5e12, 1.6e13, 6e13), (1e12, 2e12, 4e12, 9e12),
                                   (1e11, 1e13, 1e15)], ids=str)
def test_compute_has_labels_that_do_not_stand_on_each_other(spans):
    figure = figures.scale_curves(scale_lines(spans), {"AT": 0.0292, "ALP": 0.0186})
    assert not is_cut_off(figure) and overlaps(figure) == []


TRIED = "experiments/mnist-small/params.yaml"   # with trials that failed


def test_failed_trials_stand_at_the_lower_edge_and_leave_the_others_room(drawn, tmp_path,
                                                                          monkeypatch):
    monkeypatch.chdir(ROOT)
    params = load_study(TRIED)
    trials = read_trials(params)
    trials = trials[trials.method.isin(params.models)]
    draw_trials(tmp_path, params, trials)
    figure = drawn["tuning"]
    assert not is_cut_off(figure) and overlaps(figure) == []
    best, axes = 100 * winners(trials).robust_accuracy.min(), figure.axes[0]
    assert 0 < best - axes.get_ylim()[0] < figures.SHOWN_BELOW + 2
    failed = trials[100 * trials.robust_accuracy < best - figures.SHOWN_BELOW]
    said = [text.get_text() for panel in figure.axes for text in panel.texts]
    assert len(failed) and sorted(said) == sorted(
        f"{100 * accuracy:.0f}" for accuracy in failed.robust_accuracy)
