"""The poster's five figures and the loss surfaces, redrawn from tables and pixels.

Okabe-Ito colours of models, and a marker beside each, so that they read without colour.
"""

from io import BytesIO
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tla.files import write_bytes

STYLE = {  # model label -> colour, marker
    "UM": ("#999999", "x"), "AT": ("#E69F00", "o"), "ALP": ("#56B4E9", "s"),
    "TRADES": ("#0072B2", "P"), "TLA-RN": ("#009E73", "^"), "TLA-SA": ("#CC79A7", "v"),
    "TLA": ("#D55E00", "D")}
SWEEP = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "D"), ("#CC79A7", "v"), ("#777777", "^"))
LOOKS = {"confirmed": ("#0072B2", "o"), "contradicted": ("#D55E00", "s"),
            "not resolved": ("#777777", "x")}
CLASSES = ["#1F77B4", "#FF7F0E", "#2CA02C", "#D62728", "#9467BD", "#8C564B", "#E377C2", "#7F7F7F",
           "#BCBD22", "#17BECF"]    # told apart from each other on white and on black
TRIALS = {False: ("#999999", "o", "trial"), True: ("black", "*", "the method's best")}
PANELS = 4      # in a row, at most
CLEAR = 0.09            # of a map's side is between two numbers
SHOWN_BELOW = 12        # points below the worst method's best; trials beyond have no place
ACCURACY = "accuracy, %\n(95 % interval over images)"
CURVE = {"markersize": 4, "linewidth": 1.2, "capsize": 2, "elinewidth": 0.8}
FOREST = {"markersize": 5, "linestyle": "", "capsize": 2, "elinewidth": 1}  # below each other
ON_COLOUR = "#111111"   # lines on coloured panels: black elsewhere is white on a dark page
KINDS = {"clean": "clean images", "adv": "their adversarial versions"}     # of the t-SNE maps
mpl.use("svg")
mpl.rcParams |= {
    "svg.hashsalt": "tla", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3, "legend.frameon": False,
    "figure.dpi": 100, "figure.constrained_layout.use": True,
    "axes.axisbelow": True}


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write name.svg and name.png; without dates, so that the same data give the same bytes."""
    unnamed = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    for form, metadata in unnamed.items():
        content = BytesIO()
        figure.savefig(content, format=form, dpi=150, metadata=metadata)
        write_bytes(folder / f"{name}.{form}", content.getvalue())
    plt.close(figure)


def _errors(middle: pd.Series, low: pd.Series, high: pd.Series) -> list[pd.Series]:
    """How far the ends of intervals are from these values, as `errorbar` wants it."""
    return [middle - low, high - middle]


def _diamonds(axes: Axes, x: pd.Series, y: np.ndarray, edge: str, **look) -> None:
    """Hollow diamonds: what was published."""
    axes.plot(x, y, linestyle="", marker="D", color="white", markeredgecolor=edge, **look)


def accuracy_dots(accuracy: pd.DataFrame, differences: pd.DataFrame, published: pd.DataFrame,
                  heads: dict[str, str], baseline: str) -> Figure:
    """Accuracy of each model under each attack, and beside it by how much it leads the baseline.

    All with 95 % intervals. accuracy: columns label, outcome, accuracy, low, high; differences:
    label, outcome, difference, low, high; published: model, outcome, value; in percent. heads:
    'cw_last' -> what stands beside its group; baseline: a label.
    """
    models, said = list(dict.fromkeys(accuracy.label)), published.set_index(["model", "outcome"])
    height = 1.1 + (0.1 + 0.08 * len(models)) * len(heads)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, height), sharey=True,
                                         width_ratios=(4, 3))
    for k, model in enumerate(models):
        y = np.arange(len(heads)) + 0.8 * ((k + 0.5) / len(models) - 0.5)
        theirs = _published(said, model, list(heads))
        _dots(left, accuracy, "accuracy", model, list(heads), y, theirs)
        _dots(right, differences, "difference", model, list(heads), y,
              theirs - _published(said, baseline, list(heads)))
    right.axvline(0, color="black", linewidth=0.8)
    left.set(xlabel=ACCURACY, ylim=(len(heads) - 0.5, -0.5))
    left.set_yticks(range(len(heads)), heads.values())
    right.set(xlabel=f"minus {baseline}, points\n(95 % interval over images, seeds)")
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        for line in range(1, len(heads)):
            axes.axhline(line - 0.5, color="#b0b0b0", linewidth=0.5)
    handles = [_marker(*STYLE[model], model) for model in models]
    if len(published):
        handles.append(_marker("black", "D", "published", markerfacecolor="white"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles),
                  handletextpad=0.2, columnspacing=1.2)
    return figure


def _published(said: pd.DataFrame, model: str, outcomes: list[str]) -> np.ndarray:
    """The published values of a model under these outcomes, NaN where there is none."""
    return said.value.reindex([(model, outcome) for outcome in outcomes]).to_numpy()


def _dots(axes: Axes, table: pd.DataFrame, value: str, model: str, outcomes: list[str],
          y: np.ndarray, theirs: np.ndarray) -> None:
    """One model's values with intervals, and hollow the published ones."""
    line = table[table.label == model].set_index("outcome").reindex(outcomes)
    colour, marker = STYLE[model]
    axes.errorbar(line[value], y, xerr=_errors(line[value], line.low, line.high), linestyle="",
                  color=colour, marker=marker, markersize=4, elinewidth=1)
    if line[value].notna().any():
        _diamonds(axes, theirs, y, colour, markersize=4, zorder=3)


def _marker(colour: str, marker: str, label: str, **look) -> plt.Line2D:
    """An entry of a legend."""
    return plt.Line2D([], [], color=colour, marker=marker, linestyle="", markersize=5, label=label,
                      **look)


def roc_curves(curves: pd.DataFrame, areas: pd.DataFrame, tasks: dict[str, str],
               scores: dict[str, str], note: str) -> Figure:
    """ROC curves per task (rows) and score (columns), one line a model, AUC in the legend.

    curves: columns label, task, score, fpr, tpr; areas: label, task, score, auc, empty and without
    a curve where undefined; note: what stands below all.
    """
    figure, grid = plt.subplots(len(tasks), len(scores), figsize=(7.2, 4.9), sharex=True,
                                sharey=True)
    for row, (task, task_label) in zip(grid, tasks.items(), strict=True):
        for axes, (score, score_label) in zip(row, scores.items(), strict=True):
            lines = curves[(curves.task == task) & (curves.score == score)]
            _roc_panel(axes, lines, areas[(areas.task == task) & (areas.score == score)])
            axes.set_title(f"{task_label}\n{score_label}", fontsize=8, loc="left")
    figure.supxlabel(f"false-positive rate\n{note}".strip(), fontsize=9)
    figure.supylabel("true-positive rate", fontsize=9)
    return figure


def _roc_panel(axes: Axes, curves: pd.DataFrame, areas: pd.DataFrame) -> None:
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.5, linestyle=":")
    areas = areas[areas.auc.notna()]
    for model, area in zip(areas.label, areas.auc, strict=True):
        colour, marker = STYLE[model]
        line = curves[curves.label == model]
        axes.plot(line.fpr, line.tpr, color=colour, marker=marker, markevery=8, markersize=3.5,
                  linewidth=1.2, label=f"{model} {area:.3f}")
    if areas.empty:
        axes.text(0.65, 0.2, "undefined for all", ha="center", fontsize=7)
        return
    axes.legend(loc="best", fontsize=7, handlelength=1.6, title="AUC", title_fontsize=7,
                frameon=True, edgecolor="none", borderpad=0.1, labelspacing=0.35)


def pool_sweep(accuracy: pd.DataFrame, outcomes: dict[str, str], published: pd.DataFrame,
               current: int) -> Figure:
    """Accuracy against the size of the negative pool, the published values dashed.

    accuracy: columns batch, outcome, accuracy, low, high; published: pool, outcome, value; in
    percent. current: the study's own pool.
    """
    figure, axes = plt.subplots(figsize=(6, 3.8))
    sizes = sorted(accuracy.batch.unique())
    for i, (outcome, label) in enumerate(outcomes.items()):
        line = accuracy[accuracy.outcome == outcome].sort_values("batch")
        x = np.arange(len(sizes)) + 0.06 * (i - (len(outcomes) - 1) / 2)
        style = {"color": SWEEP[i][0], "marker": SWEEP[i][1]}
        axes.errorbar(x, line.accuracy, yerr=_errors(line.accuracy, line.low, line.high),
                      label=label, **style, **CURVE)
        theirs = published[published.outcome == outcome].set_index("pool").value.reindex(sizes)
        axes.plot(x, theirs, linestyle="--", markerfacecolor="white", markersize=4, **style,
                  label=f"{label}, published" if theirs.notna().any() else None)
    axes.set_xticks(range(len(sizes)), [f"{n}\n(random)" if n == 1 else f"{n}" for n in sizes])
    axes.axvline(sizes.index(current), color="black", linewidth=0.5, linestyle=":")
    axes.set_xlabel("size of the pool negatives are mined from (dotted: default)")
    axes.set_ylabel(ACCURACY)
    figure.legend(loc="outside lower center", ncols=3, columnspacing=1.2, fontsize=7.5)
    return figure


def trial_panels(trials: pd.DataFrame, axes_of: dict[str, str]) -> Figure:
    """Accuracy under a trial's attacks of hyper-parameter trials, a panel a method.

    trials: columns label, value (of the key on the panel's axis), robust_accuracy, robust_std (in
    percent, empty of one seed), won; axes_of: label -> that key. Bars: a standard deviation over
    seeds. Trials far below the best of every method stand at the lower edge, with their accuracy.
    """
    columns = min(PANELS, len(axes_of))
    rows = -(-len(axes_of) // columns)
    lowest = trials.robust_accuracy[trials.won].min() - SHOWN_BELOW
    figure, grid = plt.subplots(rows, columns, figsize=(7.2, 0.4 + 1.9 * rows), squeeze=False,
                                sharey=True)
    for axes, (label, key) in zip(grid.flat, axes_of.items(), strict=False):
        own = trials[trials.label == label]
        _trials(axes, own[own.robust_accuracy >= lowest])
        _far_below(axes, own[own.robust_accuracy < lowest], lowest)
        axes.set_xscale("log")
        ends = own.value.agg(["min", "max"])
        axes.set_xticks(ends, [f"{value:g}" for value in ends])
        axes.set_xticks([], minor=True)     # labels of a range below a decade overlap
        axes.set_title(label, fontsize=8, loc="left")
        axes.set_xlabel(key, fontsize=7)
        axes.tick_params(labelsize=7, which="both")
    for axes in grid.flat[len(axes_of):]:
        axes.remove()
    figure.supylabel("accuracy under all attacks\nof a trial, %, validation", fontsize=8,
                     multialignment="center")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _trials(axes: Axes, own: pd.DataFrame) -> None:
    """Those of one method, its best apart."""
    for won, (colour, marker, name) in TRIALS.items():
        part = own[own.won == won]
        axes.errorbar(part.value, part.robust_accuracy, yerr=part.robust_std, linestyle="",
                      color=colour, marker=marker, markersize=7 if won else 4, elinewidth=0.8,
                      label=name)


def _far_below(axes: Axes, own: pd.DataFrame, lowest: float) -> None:
    """A triangle each at the lower edge, with the accuracy above it."""
    for trial in own.itertuples():
        axes.plot(trial.value, lowest, marker="v", color=TRIALS[False][0], markersize=4)
        axes.annotate(f"{trial.robust_accuracy:.0f}", (trial.value, lowest), (0, 5),
                      textcoords="offset points", ha="center", fontsize=7, rotation=90)


def radius_curves(lines: pd.DataFrame, norms: dict[str, str]) -> Figure:
    """Accuracy against the radius, a panel a norm and a line a model, with 95 % intervals.

    lines: columns label, norm, radius, accuracy, low, high (in percent); norms: 'l2' -> what its
    axis says.
    """
    figure, row = plt.subplots(1, len(norms), figsize=(7.2, 3.4), sharey=True)
    models = list(dict.fromkeys(lines.label))
    for axes, (norm, head) in zip(row, norms.items(), strict=True):
        panel = lines[lines.norm == norm]
        apart = 0.01 * (panel.radius.max() - panel.radius.min())
        for i, model in enumerate(models):
            line, (colour, marker) = panel[panel.label == model], STYLE[model]
            axes.errorbar(line.radius + apart * (i - (len(models) - 1) / 2), line.accuracy,
                          yerr=_errors(line.accuracy, line.low, line.high), color=colour,
                          marker=marker, label=model, **CURVE)
        axes.set_xticks(sorted(panel.radius.unique()))
        axes.set_xlabel(head)
    row[0].set_ylabel(ACCURACY)
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=len(models))
    return figure


def claim_forest(lines: pd.DataFrame) -> Figure:
    """Published and our difference per claim, ours with its 95 % interval and shaped by verdict.

    lines: columns panel (what its axis says), label, published, ours, low, high (points), verdict;
    the first is drawn on top.
    """
    sizes = lines.groupby("panel", sort=False).size()
    figure, column = plt.subplots(
        len(sizes), figsize=(6.2, 0.6 + 0.6 * len(sizes) + 0.36 * len(lines)), squeeze=False,
        height_ratios=sizes.to_list())
    for axes, (panel, part) in zip(column[:, 0], lines.groupby("panel", sort=False), strict=True):
        _forest(axes, part)
        axes.set_xlabel(f"{panel} (95 % interval)")
    figure.legend(*column[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4,
                  title="verdicts after correction for the number of claims", title_fontsize=9)
    return figure


def _forest(axes: Axes, lines: pd.DataFrame) -> None:
    """Claims of one kind below each other."""
    y = np.arange(len(lines))
    _room(axes, len(lines))
    _diamonds(axes, lines.published, y + 0.2, "black", markersize=5, zorder=3, label="published")
    for verdict, (colour, marker) in LOOKS.items():
        part, at = lines[lines.verdict == verdict], y[lines.verdict == verdict] + 0.2
        axes.errorbar(part.ours, at, xerr=_errors(part.ours, part.low, part.high), color=colour,
                      marker=marker, zorder=4, label=f"ours: {verdict}", **FOREST)
    for at, label, verdict in zip(y, lines.label, lines.verdict, strict=True):
        _above(axes, at, label if verdict in LOOKS else f"{label} (ours: {verdict})", 8)


def _room(axes: Axes, count: int) -> None:
    """Room for so many lines below each other, and where zero is."""
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(yticks=[], ylim=(count - 0.5, -0.6))
    axes.grid(axis="y", visible=False)


def _above(axes: Axes, at: int, text: str, size: float) -> None:
    """What a line is about, above it, so that a narrow screen shows both."""
    axes.text(0.01, at - 0.12, text, fontsize=size, transform=axes.get_yaxis_transform(),
              bbox={"color": "white", "pad": 0.5})


def scale_curves(lines: pd.DataFrame, published: dict[str, float]) -> Figure:
    """TLA minus each baseline against the compute of its training, a line a series.

    lines: columns label (of the baseline), series, variant, compute, difference, low, high;
    published: by label, NaN where nothing is. The legend names the variants of a line from left to
    right.
    """
    height = 3 + 0.2 * lines.series.nunique()
    figure, row = plt.subplots(1, lines.label.nunique(), figsize=(7.2, height), sharey=True)
    for axes, (label, panel) in zip(row, lines.groupby("label", sort=False), strict=True):
        axes.axhline(0, color="black", linewidth=0.8)
        axes.axhline(100 * published[label], color="black", linewidth=1, linestyle="--",
                     label="published" if pd.notna(published[label]) else None)
        for (series, part), (colour, marker) in zip(
                panel.groupby("series", sort=False), cycle(SWEEP), strict=False):
            part = part.sort_values("compute")
            errors = _errors(part.difference, part.low, part.high)
            axes.errorbar(part.compute / 1e12, 100 * part.difference,
                          yerr=[100 * e for e in errors], color=colour, marker=marker, **CURVE,
                          label=f"{series}: {', '.join(part.variant)}")
        axes.set_xscale("log", base=2)
        axes.set(xlabel="10¹² multiply-adds of TLA's training", title=f"TLA − {label}")
        axes.xaxis.set_major_formatter("{x:g}")
    row[0].set_ylabel("points of accuracy (95 % interval)")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", fontsize=8)
    return figure


def gain_forest(lines: pd.DataFrame) -> Figure:
    """TLA minus AT by how they are treated, and what each treatment adds, with 95 % intervals.

    lines: columns says, published, difference, low, high, and added, added_low, added_high, empty
    in the first line, which is drawn on top and whose published gain is dashed where others add.
    """
    figure, row = plt.subplots(1, 2, figsize=(7.2, 0.9 + 0.42 * len(lines)), sharey=True)
    y = np.arange(len(lines))
    panels = (("difference", "low", "high", "TLA − AT"),
              ("added", "added_low", "added_high", "added to equal treatment"))
    for axes, (name, low, high, head) in zip(row, panels, strict=True):
        middle = 100 * lines[name]
        errors = _errors(middle, 100 * lines[low], 100 * lines[high])
        _room(axes, len(lines))
        axes.errorbar(middle, y + 0.2, xerr=errors, color="#0072B2", marker="o", label="ours",
                      **FOREST)
        axes.set_xlabel(f"{head}, points (95 % interval)")
    _diamonds(row[0], 100 * lines.published, y + 0.2, "black", markersize=5,
              label="published under this attack")
    dashed = row[1].axvline(100 * lines.published.iloc[0], color="black", linewidth=1,
                            linestyle="--", label="published for the first line")
    for at, says in zip(y, lines.says, strict=True):
        _above(row[0], at, says, 7.5)
    known = [dashed] if pd.notna(lines.published.iloc[0]) else []
    handles, _ = row[0].get_legend_handles_labels()
    figure.legend(handles=handles + known, loc="outside lower center", ncols=3)
    return figure


def neighbor_grid(tiles: dict[str, np.ndarray], captions: dict[str, pd.DataFrame],
                  classes: list[str]) -> Figure:
    """Per model, rows of a query, clean and adversarial, and the training images it retrieves.

    tiles[model]: pixels [queries, 2 + retrieved, h, w(, 3)] in 0 to 255. classes: their names.
    Ticks mark retrieved images of the query's class.
    """
    queries, columns = next(iter(tiles.values())).shape[:2]
    size = (3.9 * len(tiles), 0.78 * queries + 0.4)
    figure, row = plt.subplots(1, len(tiles), figsize=size)
    for axes, (model, pixels) in zip(row, tiles.items(), strict=True):
        for q, (query, predicted, *retrieved) in enumerate(captions[model].itertuples(index=False)):
            _tile(axes, pixels[q, 0], 0, q, classes[query], "black")
            _tile(axes, pixels[q, 1], 1.12, q, f"as {classes[predicted]}", "black")
            for c, found in enumerate(retrieved, start=2):
                mark, colour = ("✓", "black") if found == query else ("✗", "#B03A00")
                _tile(axes, pixels[q, c], 1.12 * c + 0.25, q, f"{classes[found]} {mark}", colour)
        axes.set(xlim=(-0.05, 1.12 * columns + 0.2), ylim=(1.34 * queries - 0.3, -0.3),
                 aspect="equal")
        axes.set_title(f"{model}: query, attacked (read as), what that retrieves", fontsize=8.5,
                       loc="left")
        axes.axis("off")
    return figure


def _tile(axes: Axes, pixels: np.ndarray, left: float, line: int, text: str, colour: str) -> None:
    top = 1.34 * line
    axes.imshow(pixels, cmap="gray_r", vmin=0, vmax=255, extent=(left, left + 1, top + 1, top),
                interpolation="none")   # the SVG then holds their own pixels, not many more
    axes.text(left + 0.5, top - 0.06, text, ha="center", fontsize=7, color=colour)


def tsne_maps(points: dict[str, pd.DataFrame], classes: list[str]) -> Figure:
    """Images in the plane, a column a model, clean ones above adversarial ones of the same map.

    Coloured by true class, whose number stands near the middle of its clean images, in both.
    classes: their names, which stand below where they are not those numbers.
    """
    figure, grid = plt.subplots(len(KINDS), len(points), figsize=(7.2, 5.2), sharex="col",
                                sharey="col", squeeze=False)
    for column, (model, table) in zip(grid.T, points.items(), strict=True):
        numbers = _numbers(table[table.kind == "clean"])
        for axes, (kind, text) in zip(column, KINDS.items(), strict=True):
            part = table[table.kind == kind]
            colours = [CLASSES[label % len(CLASSES)] for label in part.label]
            axes.scatter(part.x, part.y, c=colours, s=9, linewidths=0, alpha=0.8, rasterized=True)
            for label, place in numbers.items():
                box = {"facecolor": "white", "edgecolor": CLASSES[label % len(CLASSES)],
                       "alpha": 0.9, "pad": 1.2}
                axes.text(*place, str(label), fontsize=10, ha="center", va="center",
                          fontweight="bold", bbox=box)
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{model}: {text}", fontsize=9, loc="left")
            axes.grid(visible=False)
    called = [f"{k} {name}" for k, name in enumerate(classes) if name != str(k)]
    if called:
        figure.supxlabel(", ".join(called), fontsize=7.5)
    return figure


def _numbers(clean: pd.DataFrame) -> dict[int, np.ndarray]:
    """Where each class's number stands: at its image next to its middle, off other numbers."""
    room, found = CLEAR * np.ptp(clean[["x", "y"]], axis=0), {}
    for label, own in clean.groupby("label"):
        places = own[["x", "y"]].to_numpy()
        away = np.abs(places - np.median(places, axis=0)).max(axis=1)
        for place in places[np.argsort(away, kind="stable")]:
            if all((np.abs(place - other) > room).any() for other in found.values()):
                found[label] = place
                break
    return found


def loss_surfaces(planes: dict[str, pd.DataFrame]) -> Figure:
    """Margin around test images as a share of that at the image, a row an image, a column a model.

    Networks scale their logits as they like; so each panel is 1 at the image and 0 at the decision
    boundary (thick). planes[model]: columns idx, gradient, random (steps along the gradient's sign
    and along random signs), margin (wrong minus true logit). Dashed: the ball of radius eps.
    """
    images = list(dict.fromkeys(next(iter(planes.values())).idx))
    figure, grid = plt.subplots(len(images), len(planes), figsize=(7.2, 2.3 * len(images)),
                                sharex=True, sharey=True, squeeze=False)
    for row, idx in zip(grid, images, strict=True):
        for axes, (model, table) in zip(row, planes.items(), strict=True):
            drawn = _surface(axes, table[table.idx == idx])
            axes.set_title(f"{model}, image {idx}", fontsize=8, loc="left")
    figure.colorbar(drawn, ax=grid, ticks=np.arange(-1.5, 1.6, 0.5),
                    label="true minus largest wrong logit,\nas a share of that of the image")
    figure.supxlabel("step along the sign of the gradient", fontsize=9)
    figure.supylabel("step along random signs", fontsize=9)
    return figure


def _surface(axes: Axes, table: pd.DataFrame):
    """One panel; returns what a colour bar is drawn from."""
    part = -table.pivot(index="random", columns="gradient", values="margin")
    middle = abs(part.iloc[np.abs(part.index).argmin(), np.abs(part.columns).argmin()])
    drawn = axes.contourf(part.columns, part.index, part / middle, cmap="RdBu", extend="both",
                          levels=np.linspace(-1.5, 1.5, 25))
    drawn.set_edgecolor("face")     # else the page shines through between two colours
    axes.contour(part.columns, part.index, part, levels=[0], colors=ON_COLOUR, linewidths=1.5)
    axes.plot(0, 0, marker="+", color=ON_COLOUR)
    eps = part.columns.max()        # along both axes at once a pixel moves by the sum
    axes.plot([eps, 0, -eps, 0, eps], [0, eps, 0, -eps, 0], color=ON_COLOUR, linewidth=0.7,
              linestyle="--")
    axes.set_xticks([-eps, 0, eps], ["−eps", "0", "eps"])
    axes.set_yticks([-eps, 0, eps], ["−eps", "0", "eps"])
    axes.grid(visible=False)
    return drawn
