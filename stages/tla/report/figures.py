"""The poster's five figures and the loss surfaces, redrawn from tables and pixels.

Okabe-Ito colours, and a marker or hatch beside each, so that they read without colour.
"""

from pathlib import Path
from textwrap import fill as wrapped

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE = {  # model label -> colour, marker, hatch
    "UM": ("#999999", "x", ""), "AT": ("#E69F00", "o", ""), "ALP": ("#56B4E9", "s", "//"),
    "TLA-RN": ("#009E73", "^", ".."), "TLA-SA": ("#CC79A7", "v", "\\\\"),
    "TLA": ("#D55E00", "D", "xx")}
SWEEP = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "D"), ("#CC79A7", "v"), ("#000000", "^"))
VERDICTS = {"confirmed": ("#0072B2", "o"), "contradicted": ("#D55E00", "s"),
            "not resolved": ("#777777", "x")}
CLASSES = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999",
           "#000000", "#8B5A2B"]
TRIALS = {False: ("#999999", "o", "trial"), True: ("#D55E00", "D", "the method's best")}
PANELS = 4      # in a row
KINDS = (("clean", "o", "clean"), ("adv", "x", "adversarial"))      # of points in the t-SNE maps
mpl.use("svg")
mpl.rcParams |= {
    "svg.hashsalt": "tla", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3, "hatch.linewidth": 0.4,
    "legend.frameon": False, "figure.dpi": 100, "figure.constrained_layout.use": True,
    "axes.axisbelow": True}


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write name.svg and name.png; without dates, so that the same data give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
    plt.close(figure)


def accuracy_bars(accuracy: pd.DataFrame, outcomes: dict[str, str], published: pd.DataFrame,
                  title: str) -> Figure:
    """Bars per outcome and model with 95 % intervals, and the published values as diamonds.

    accuracy: columns label, outcome, accuracy, low, high; outcomes: 'cw_last' -> its label;
    published: columns model, outcome, value (a fraction), no line where nothing was published.
    """
    figure, axes = plt.subplots(figsize=(10, 3.6))
    models = list(dict.fromkeys(accuracy.label))
    shown = accuracy[accuracy.outcome.isin(list(outcomes))]
    width = 0.82 / len(models)
    for i, model in enumerate(models):
        part = shown[shown.label == model].set_index("outcome").loc[list(outcomes)]
        x = np.arange(len(outcomes)) + (i - (len(models) - 1) / 2) * width
        colour, _, hatch = STYLE[model]
        errors = [part.accuracy - part.low, part.high - part.accuracy]
        axes.bar(x, part.accuracy, width, yerr=errors, label=model, color=colour, hatch=hatch,
                 edgecolor="black", linewidth=0.5, error_kw={"elinewidth": 0.8, "capsize": 2})
        theirs = published[published.model == model].set_index("outcome").value
        axes.plot(x, theirs.reindex(list(outcomes)), linestyle="", marker="D", markersize=4,
                  color="white", markeredgecolor="black", zorder=3,
                  label="published" if i == 0 and len(published) else None)
    lowest, highest = shown.low.min(), max(shown.high.max(), published.value.max())
    axes.set_ylim(max(lowest - 0.05, 0), min(highest + 0.03, 1))
    axes.set_xticks(range(len(outcomes)), [wrapped(text, 12) for text in outcomes.values()])
    axes.set_ylabel("accuracy (axis does not start at 0)")
    axes.set_title(title, loc="left")
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=len(models) + 1)
    return figure


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
    for model, area in zip(areas.label, areas.auc, strict=True):
        colour, marker, _ = STYLE[model]
        line, found = curves[curves.label == model], "undefined" if pd.isna(area) else f"{area:.3f}"
        axes.plot(line.fpr, line.tpr, color=colour, marker=marker, markevery=8, markersize=3.5,
                  linewidth=1.2, label=f"{model} {found}")
    axes.legend(loc="best", fontsize=7, handlelength=1.6, title="AUC", title_fontsize=7,
                frameon=True, edgecolor="none", borderpad=0.1, labelspacing=0.35)


def pool_sweep(accuracy: pd.DataFrame, outcomes: dict[str, str], published: pd.DataFrame,
               current: int) -> Figure:
    """Accuracy against the size of the negative pool, the published values dashed.

    accuracy: columns batch, outcome, accuracy, low, high; published: pool, outcome, value (a
    fraction); current: the study's own pool.
    """
    figure, axes = plt.subplots(figsize=(6, 3.4))
    sizes = sorted(accuracy.batch.unique())
    for i, (outcome, label) in enumerate(outcomes.items()):
        line = accuracy[accuracy.outcome == outcome].sort_values("batch")
        x = np.arange(len(sizes)) + 0.06 * (i - (len(outcomes) - 1) / 2)
        style = {"color": SWEEP[i][0], "marker": SWEEP[i][1], "markersize": 4}
        axes.errorbar(x, line.accuracy, yerr=[line.accuracy - line.low, line.high - line.accuracy],
                      linewidth=1.2, capsize=2, elinewidth=0.8, label=label, **style)
        theirs = published[published.outcome == outcome].set_index("pool").value.reindex(sizes)
        axes.plot(x, theirs, linestyle="--", markerfacecolor="white", **style,
                  label=f"{label}, published" if theirs.notna().any() else None)
    axes.set_xticks(range(len(sizes)), [f"{n}\n(random)" if n == 1 else f"{n}" for n in sizes])
    axes.axvline(sizes.index(current), color="black", linewidth=0.5, linestyle=":")
    axes.set_xlabel("size of the pool negatives are mined from (dotted: default)")
    axes.set_ylabel("accuracy")
    figure.legend(loc="outside lower center", ncols=len(outcomes), columnspacing=1.2)
    return figure


def trial_panels(trials: pd.DataFrame, axes_of: dict[str, str]) -> Figure:
    """Robust accuracy on validation images of hyper-parameter trials, a panel a method.

    trials: columns label, value (of the key on the panel's axis), robust_accuracy, robust_std
    (empty of one seed), won; axes_of: label -> that key. Bars: a standard deviation over seeds.
    """
    rows = -(-len(axes_of) // PANELS)
    figure, grid = plt.subplots(rows, PANELS, figsize=(7.2, 1.9 * rows), squeeze=False)
    for axes, (label, key) in zip(grid.flat, axes_of.items(), strict=False):
        for won, (colour, marker, name) in TRIALS.items():
            part = trials[(trials.label == label) & (trials.won == won)]
            axes.errorbar(part.value, part.robust_accuracy, yerr=part.robust_std, linestyle="",
                          color=colour, marker=marker, markersize=4, elinewidth=0.8, label=name)
        axes.set_xscale("log")
        ends = trials.value[trials.label == label].agg(["min", "max"])
        axes.set_xticks(ends, [f"{value:g}" for value in ends])
        axes.set_xticks([], minor=True)     # labels of a range below a decade overlap
        axes.set_title(label, fontsize=8, loc="left")
        axes.set_xlabel(key, fontsize=7)
        axes.tick_params(labelsize=7, which="both")
    for axes in grid.flat[len(axes_of):]:
        axes.remove()
    figure.supylabel("robust accuracy, validation", fontsize=9)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def radius_curves(lines: pd.DataFrame, norms: dict[str, str]) -> Figure:
    """Accuracy against the radius, a panel a norm and a line a model, with 95 % intervals.

    lines: columns label, norm, radius, accuracy, low, high; norms: 'l2' -> what its axis says.
    """
    figure, row = plt.subplots(1, len(norms), figsize=(7.2, 3.4), sharey=True)
    models = list(dict.fromkeys(lines.label))
    for axes, (norm, head) in zip(row, norms.items(), strict=True):
        panel = lines[lines.norm == norm]
        apart = 0.01 * (panel.radius.max() - panel.radius.min())
        for i, model in enumerate(models):
            line, (colour, marker, _) = panel[panel.label == model], STYLE[model]
            axes.errorbar(line.radius + apart * (i - (len(models) - 1) / 2), line.accuracy,
                          yerr=[line.accuracy - line.low, line.high - line.accuracy],
                          color=colour, marker=marker, markersize=4, linewidth=1.2, capsize=2,
                          elinewidth=0.8, label=model)
        axes.set_xticks(sorted(panel.radius.unique()))
        axes.set_xlabel(head)
    row[0].set_ylabel("accuracy")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=len(models))
    return figure


def claim_forest(lines: pd.DataFrame) -> Figure:
    """Published and our difference per claim, ours with its 95 % interval and shaped by verdict.

    lines: columns label, published, ours, low, high (points), verdict; the first is drawn on top.
    """
    figure, axes = plt.subplots(figsize=(6.2, 0.9 + 0.36 * len(lines)))
    y = np.arange(len(lines))
    axes.axvline(0, color="black", linewidth=0.8)
    axes.plot(lines.published, y + 0.2, linestyle="", marker="D", markersize=5, color="white",
              markeredgecolor="black", label="published", zorder=3)
    for verdict, (colour, marker) in VERDICTS.items():
        part, at = lines[lines.verdict == verdict], y[lines.verdict == verdict] + 0.2
        axes.errorbar(part.ours, at, xerr=[part.ours - part.low, part.high - part.ours],
                      linestyle="", color=colour, marker=marker, markersize=5, capsize=2,
                      elinewidth=1, label=f"ours: {verdict}")
    for at, label in zip(y, lines.label, strict=True):
        # Above its line, so that a narrow screen shows both.
        axes.text(0.01, at - 0.12, label, fontsize=8, transform=axes.get_yaxis_transform(),
                  bbox={"color": "white", "alpha": 0.7, "pad": 0.5})
    axes.set_yticks([])
    axes.set_ylim(len(lines) - 0.5, -0.6)
    axes.set_xlabel("points of accuracy or AUC by which the model is ahead, 95 % interval;\n"
                    "verdicts after correction for the number of claims")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def scale_curves(lines: pd.DataFrame, published: dict[str, float]) -> Figure:
    """TLA minus each baseline against the compute of its training, a line a series.

    lines: columns label (of the baseline), series, variant, compute, difference, low, high;
    published: by label, NaN where nothing is.
    """
    figure, row = plt.subplots(1, lines.label.nunique(), figsize=(7.2, 3.6), sharey=True)
    for axes, (label, panel) in zip(row, lines.groupby("label", sort=False), strict=True):
        axes.axhline(0, color="black", linewidth=0.8)
        axes.axhline(100 * published[label], color="black", linewidth=1, linestyle="--",
                     label="published")
        for (series, part), (colour, marker) in zip(
                panel.groupby("series", sort=False), SWEEP, strict=False):
            part = part.sort_values("compute")
            errors = [part.difference - part.low, part.high - part.difference]
            axes.errorbar(part.compute, 100 * part.difference, yerr=[100 * e for e in errors],
                          color=colour, marker=marker, markersize=4, linewidth=1.2, capsize=2,
                          elinewidth=0.8, label=series)
            for line in part.itertuples():
                axes.annotate(line.variant, (line.compute, 100 * line.low), (0, -3), fontsize=6,
                              textcoords="offset points", ha="center", va="top", color=colour)
        axes.set(xscale="log", xlabel="multiply-adds of TLA's training", title=f"TLA − {label}")
        axes.margins(x=0.12, y=0.1)     # room for the names
    row[0].set_ylabel("points of accuracy, 95 % interval")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def gain_forest(lines: pd.DataFrame) -> Figure:
    """TLA minus AT by how they are treated, and what each treatment adds, with 95 % intervals.

    lines: columns says, published, difference, low, high, and added, added_low, added_high, empty
    in the first line, which is drawn on top and whose published gain is dashed where others add.
    """
    figure, row = plt.subplots(1, 2, figsize=(7.2, 0.9 + 0.42 * len(lines)), sharey=True)
    y = np.arange(len(lines))
    heads = {"": "TLA − AT", "added_": "added to equal treatment"}
    for axes, (name, head) in zip(row, heads.items(), strict=True):
        middle = 100 * lines[name.removesuffix("_") or "difference"]
        errors = [middle - 100 * lines[f"{name}low"], 100 * lines[f"{name}high"] - middle]
        axes.axvline(0, color="black", linewidth=0.8)
        axes.errorbar(middle, y + 0.2, xerr=errors, linestyle="", color="#0072B2", marker="o",
                      markersize=5, capsize=2, elinewidth=1, label="ours")
        axes.set(xlabel=f"{head}, points", yticks=[], ylim=(len(lines) - 0.5, -0.6))
        axes.grid(axis="y", visible=False)
    row[0].plot(100 * lines.published, y + 0.2, linestyle="", marker="D", markersize=5,
                color="white", markeredgecolor="black", label="published under this attack")
    row[1].axvline(100 * lines.published.iloc[0], color="black", linewidth=1, linestyle="--")
    for at, says in zip(y, lines.says, strict=True):
        # Above its line, so that a narrow screen shows both.
        row[0].text(0.01, at - 0.12, says, fontsize=7.5, transform=row[0].get_yaxis_transform(),
                    bbox={"color": "white", "alpha": 0.7, "pad": 0.5})
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def neighbor_grid(tiles: dict[str, np.ndarray], captions: dict[str, pd.DataFrame]) -> Figure:
    """Per model, rows of one adversarial query and the clean training images it retrieves.

    tiles[model]: pixels [queries, 1 + retrieved, h, w(, 3)] in 0 to 255. Ticks mark retrieved
    images of the query's class.
    """
    queries, columns = next(iter(tiles.values())).shape[:2]
    size = (3.5 * len(tiles), 0.86 * queries + 0.3)
    figure, row = plt.subplots(1, len(tiles), figsize=size)
    for axes, (model, pixels) in zip(row, tiles.items(), strict=True):
        for q, (query, predicted, *retrieved) in enumerate(captions[model].itertuples(index=False)):
            _tile(axes, pixels[q, 0], 0, q, f"{query} read as {predicted}", "black")
            for c, found in enumerate(retrieved, start=1):
                mark, colour = ("✓", "black") if found == query else ("✗", "#B03A00")
                _tile(axes, pixels[q, c], 1.12 * c + 0.25, q, f"{found} {mark}", colour)
        axes.set(xlim=(-0.05, 1.12 * columns + 0.2), ylim=(1.34 * queries - 0.3, -0.3),
                 aspect="equal")
        axes.set_title(f"{model}: adversarial query and what it retrieves", fontsize=8.5,
                       loc="left")
        axes.axis("off")
    return figure


def _tile(axes: Axes, pixels: np.ndarray, left: float, line: int, text: str, colour: str) -> None:
    top = 1.34 * line
    axes.imshow(pixels, cmap="gray_r", vmin=0, vmax=255, extent=(left, left + 1, top + 1, top))
    axes.text(left + 0.5, top - 0.06, text, ha="center", fontsize=8, color=colour)


def tsne_maps(points: dict[str, pd.DataFrame]) -> Figure:
    """Clean (dots) and adversarial (crosses) images in the plane, coloured by class, per model."""
    figure, row = plt.subplots(1, len(points), figsize=(7.2, 3.7))
    for axes, (model, table) in zip(row, points.items(), strict=True):
        for kind, marker, _ in KINDS:
            part = table[table.kind == kind]
            look = {"s": 30, "alpha": 0.3, "linewidths": 0} if kind == "clean" else {
                "s": 10, "alpha": 0.9, "linewidths": 0.8}
            colours = [CLASSES[label % 10] for label in part.label]
            axes.scatter(part.x, part.y, c=colours, marker=marker, **look)
        axes.set(xticks=[], yticks=[], title=model)
        axes.grid(visible=False)
    handles = []
    for c in range(min(table.label.max() + 1, 10)):
        handles.append(plt.Line2D([], [], marker="o", linestyle="", color=CLASSES[c], markersize=4,
                                  label=str(c)))
    for _, marker, text in KINDS:
        handles.append(plt.Line2D([], [], marker=marker, linestyle="", color="black", markersize=4,
                                  label=text))
    figure.legend(handles=handles, loc="outside lower center", ncols=12, handletextpad=0,
                  columnspacing=0.9, fontsize=8)
    return figure


def loss_surfaces(planes: dict[str, pd.DataFrame]) -> Figure:
    """Margin around test images, a row an image and a column a model.

    planes[model]: columns idx, gradient, random (steps along the gradient's sign and along random
    signs), margin. Thick: the decision boundary. Dashed: the ball of radius eps.
    """
    images = list(dict.fromkeys(next(iter(planes.values())).idx))
    limit = max(table.margin.abs().max() for table in planes.values())
    figure, grid = plt.subplots(len(images), len(planes), figsize=(7.2, 2.3 * len(images)),
                                sharex=True, sharey=True, squeeze=False)
    for row, idx in zip(grid, images, strict=True):
        for axes, (model, table) in zip(row, planes.items(), strict=True):
            drawn = _surface(axes, table[table.idx == idx], limit)
            axes.set_title(f"{model}, image {idx}", fontsize=8, loc="left")
    figure.colorbar(drawn, ax=grid, format="%.0f", label="largest wrong logit minus the true one")
    figure.supxlabel("step along the sign of the gradient", fontsize=9)
    figure.supylabel("step along random signs", fontsize=9)
    return figure


def _surface(axes: Axes, table: pd.DataFrame, limit: float):
    """One panel; returns what a colour bar is drawn from."""
    part = table.pivot(index="random", columns="gradient", values="margin")
    drawn = axes.contourf(part.columns, part.index, part, cmap="RdBu_r",
                          levels=np.linspace(-limit, limit, 25))
    axes.contour(part.columns, part.index, part, levels=[0], colors="black", linewidths=1.5)
    axes.plot(0, 0, marker="+", color="black")
    eps = part.columns.max()        # along both axes at once a pixel moves by the sum
    axes.plot([eps, 0, -eps, 0, eps], [0, eps, 0, -eps, 0], color="black", linewidth=0.7,
              linestyle="--")
    axes.grid(visible=False)
    return drawn
