"""Figures, REPORT.md and the headline of one study, from the files under reports/ alone."""

import tla.guard  # noqa: F401

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from tla.command import study_arguments
from tla.files import read_csv, read_metrics, replacing, write_metrics, write_table, write_text
from tla.measure.pictures import read_tiles
from tla.params import Params
from tla.report import figures
from tla.report.curves import curve_lines
from tla.report.detection import ATTACKERS, SCORES, TASKS
from tla.report.intact import read_table
from tla.report.labels import class_names
from tla.report.pairs import pools
from tla.report.published import forms, poster_auc, published, published_gain
from tla.report.scale import BASELINES
from tla.report.tables import READING, lookup
from tla.report.text import read_tables, report_text, shown_outcomes, swept_outcomes
from tla.report.tuning import drawn_against, winners
from tla.report.verdicts import verdict_text
from tla.train.methods import label
from tla.workers import map_parallel

# The poster's and the yardstick, where the study has them.
DRAWN = ("at", "alp", "trades", "tla-b1", "tla-sa", "tla")
BRIEF = ("at", "alp", "trades", "tla")              # in the README, under a few attacks
AXES = {"l2": "L2 norm of the change", "l0": "changed pixels"}
SCORED = ("um", "at", "alp", "tla")                 # the poster's ROC curves; our loss surfaces
PICTURED = ("at", "tla")                            # neighbours
MAPPED = ("um", *PICTURED)      # t-SNE; without defence an attack moves images, with one hardly


def named(table: pd.DataFrame, models: list[str], params: Params) -> pd.DataFrame:
    """The lines of these models, in this order, with their label."""
    parts = []
    for name in models:
        parts.append(table[table.model == name].assign(label=label(name, params)))
    return pd.concat(parts)


def in_percent(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The table with these fractions, and the ends of their interval, in percent."""
    return table.assign(**{name: 100 * table[name] for name in (*columns, "low", "high")})


def draw_accuracy(folder: Path, params: Params, tables: dict[str, pd.DataFrame]) -> None:
    """Accuracy under every attack, and what each model is ahead of AT by; and of both a few."""
    heads = shown_outcomes(params)
    few = ("clean", READING, *forms(params), "autoattack_worst")
    draw_dots(folder, "accuracy", params, tables, DRAWN, heads)
    draw_dots(folder, "accuracy-brief", params, tables, BRIEF, {name: heads[name] for name in few})


def draw_dots(folder: Path, name: str, params: Params, tables: dict[str, pd.DataFrame],
              drawn: tuple[str, ...], heads: dict[str, str]) -> None:
    """Accuracy of models under attacks, which `heads` names, and what each is ahead of AT by."""
    accuracy, differences = tables["accuracy"], tables["differences"]
    models = [model for model in drawn if model in params.models]
    images = accuracy.groupby("outcome").images.max()
    groups = {outcome: f"{head}\n{images[outcome]:,} images" for outcome, head in heads.items()}
    said = published(params, "bars")
    figure = figures.accuracy_dots(
        in_percent(named(accuracy, models, params), "accuracy"),
        in_percent(named(differences[differences.baseline == "at"], models, params), "difference"),
        said.assign(value=100 * said.value), groups, label("at", params))
    figures.save(figure, folder / "figures", name)


def draw_pools(folder: Path, params: Params, accuracy: pd.DataFrame) -> None:
    """The sweep over pools, where there are several, and its numbers for `dvc plots`."""
    outcomes, sizes = swept_outcomes(params, accuracy), pools(params)
    swept = accuracy[accuracy.model.isin(list(sizes)) & accuracy.outcome.isin(list(outcomes))]
    swept = swept.assign(batch=swept.model.map(sizes), attack=swept.outcome.map(outcomes))
    write_table(folder / "plots" / "pool-sweep.csv",
                swept[["attack", "batch", "accuracy", "low", "high"]])
    if len(sizes) < 2:
        return
    theirs = published(params, "pool sweep")
    drawn = figures.pool_sweep(in_percent(swept, "accuracy"), outcomes,
                               theirs.assign(value=100 * theirs.value), params.mining.batch)
    figures.save(drawn, folder / "figures", "pool-sweep")


def draw_norms(folder: Path, params: Params, accuracy: pd.DataFrame) -> None:
    """Accuracy against the radius in L2 and L0, of the undefended and the poster's models."""
    models = [name for name in ("um", *DRAWN) if name in params.models]
    lines = named(curve_lines(accuracy), models, params)
    seen = f"{lines.images.max():,} images"
    heads = {norm: f"{head} ({seen})" for norm, head in AXES.items()}
    figures.save(figures.radius_curves(in_percent(lines, "accuracy"), heads), folder / "figures",
                 "norms")


def seeds_note(images: int | None, params: Params) -> str:
    """'mean of 3 seeds with 1,000 test images each'; None stands for all."""
    each = "all their test images" if images is None else f"{images:,} test images each"
    return f"mean of {len(params.seeds)} seeds with {each}"


def draw_roc(folder: Path, params: Params, areas: pd.DataFrame) -> None:
    """ROC curves at every eps, and the numbers of the middle one for `dvc plots`."""
    factors, table = sorted(set(areas.eps_factor)), read_table(params, "roc")
    for factor in factors:
        curves = named(table[table.eps_factor == factor], SCORED, params)
        found = named(areas[areas.eps_factor == factor], SCORED, params)
        note = (f"at eps = {factor:g} x training, {seeds_note(params.represent.queries, params)}\n"
                f"{poster_auc(params)}")
        figures.save(figures.roc_curves(curves, found, TASKS, SCORES, note), folder / "figures",
                     f"roc-{factor:g}")
        if factor == factors[len(factors) // 2]:
            write_table(folder / "plots" / "roc.csv",
                        curves.assign(model=curves.label)[["model", "task", "score", "fpr", "tpr"]])


def draw_aware(folder: Path, params: Params, areas: pd.DataFrame) -> None:
    """ROC curves against both attackers, of misclassified images at every eps."""
    curves = read_table(params, "aware-roc")
    for factor in sorted(set(areas.eps_factor)):
        tables = []
        for table in (curves, areas):
            part = table.query("task == 'misclassified' and eps_factor == @factor")
            tables.append(named(part.assign(task=part.attacker), SCORED, params))
        note = (f"{TASKS['misclassified']}, at eps = {factor:g} x training, "
                f"{seeds_note(params.detect.aware.images, params)}")
        figures.save(figures.roc_curves(*tables, ATTACKERS, SCORES, note), folder / "figures",
                     f"aware-{factor:g}")


def draw_trials(folder: Path, params: Params, trials: pd.DataFrame) -> None:
    """Every hyper-parameter trial against the first key that those of its method differ in."""
    trials = trials.assign(won=trials.index.isin(winners(trials).index), model=trials.method,
                           robust_accuracy=100 * trials.robust_accuracy,
                           robust_std=100 * trials.robust_std)
    parts, axes_of = [], {}
    for name in params.models:
        own = trials[trials.method == name]
        if len(own):
            axes_of[label(name, params)], values = drawn_against(own)
            parts.append(named(own.assign(value=values), [name], params))
    figures.save(figures.trial_panels(pd.concat(parts), axes_of), folder / "figures", "tuning")


def draw_scale(folder: Path, params: Params, lines: pd.DataFrame) -> None:
    """TLA minus AT and ALP against the compute of training."""
    said = {label(name, params): published_gain(params, params.variants.scale.outcome, name)
            for name in BASELINES}
    lines = lines.assign(label=[label(name, params) for name in lines.baseline])
    figures.save(figures.scale_curves(lines, said), folder / "figures", "scale")


def draw_gain(folder: Path, table: pd.DataFrame) -> None:
    """What unequal treatments add to TLA minus AT, a figure a network."""
    for network, lines in table.groupby("network", sort=False):
        figures.save(figures.gain_forest(lines), folder / "figures", f"gain-{network}")


def classes_in(maps: dict[str, pd.DataFrame], captions: dict[str, pd.DataFrame]) -> int:
    """How many classes there are in figures of t-SNE maps, column label, and neighbours, captions.

    Both are of samples of the test images, and either may lack a class of the other.
    """
    return 1 + max(*(table.label.max() for table in maps.values()),
                   *(table.to_numpy().max() for table in captions.values()))


def draw_embedding(folder: Path, params: Params) -> None:
    """What neighbours are retrieved, t-SNE maps, and the loss around a few test images."""
    captions, tiles, maps, planes = {}, {}, {}, {}
    represented = Path("reports", params.dataset, "represent")
    for name in PICTURED:
        called, made = label(name, params), represented / name
        captions[called] = read_csv(made / "neighbors.csv")
        tiles[called] = read_tiles(made / "neighbors.png", len(captions[called]),
                                   2 + params.neighbors.retrieved)
    for name in MAPPED:
        maps[label(name, params)] = read_csv(represented / name / "tsne.csv")
    for name in SCORED:
        planes[label(name, params)] = read_csv(represented / name / "surface.csv")
    classes = class_names(params.data.source, classes_in(maps, captions))
    figures.save(figures.neighbor_grid(tiles, captions, classes), folder / "figures", "neighbors")
    figures.save(figures.tsne_maps(maps, classes), folder / "figures", "tsne")
    figures.save(figures.loss_surfaces(planes), folder / "figures", "loss-surface")


def headline_metrics(params: Params, tables: dict[str, pd.DataFrame]) -> dict[str, float | int]:
    """The few numbers of a study that an ablation is read by."""
    accuracy = lookup(tables["accuracy"], "model", "outcome")
    difference = lookup(tables["differences"], "model", "baseline", "outcome")
    found = {"mining_batch": params.mining.batch}
    for model in ("at", "alp", "tla"):
        for outcome in ("clean", "robust"):
            found[f"{model}_{outcome}_accuracy"] = accuracy[model, outcome]["accuracy"]
    for baseline in ("at", "alp"):
        found[f"tla_minus_{baseline}"] = difference["tla", baseline, "robust"]["difference"]
    auc = tables["auc"].query("model == 'tla' and task == 'misclassified' and score == 'mixture'")
    beyond = auc[auc.eps_factor > 1].sort_values("eps_factor").auc
    if len(beyond) and pd.notna(beyond.iloc[0]):
        found["tla_auc"] = float(beyond.iloc[0])
    return found


def drawings(out: Path, params: Params, tables: dict[str, pd.DataFrame]) -> list[Callable]:
    """What draws the figures of the study, each by itself."""
    found = [partial(draw_accuracy, out, params, tables),
             partial(draw_pools, out, params, tables["accuracy"]),
             partial(draw_norms, out, params, tables["accuracy"]),
             partial(draw_roc, out, params, tables["auc"]),
             partial(draw_aware, out, params, tables["aware"]),
             partial(draw_embedding, out, params)]
    if tables["trials"].method.isin(params.models).any():
        found.append(partial(draw_trials, out, params, tables["trials"]))
    if "scale" in tables:
        found.append(partial(draw_scale, out, params, tables["scale"]))
    if "gain" in tables:
        found.append(partial(draw_gain, out, tables["gain"]))
    return found


def main(argv: list[str] | None = None) -> None:
    params = study_arguments(__doc__, argv)
    folder, tables, distances = Path("reports", params.dataset), read_tables(params), {}
    for name in params.represent.models:
        distances[name] = read_metrics(folder / "metrics" / f"represent-{name}.json")
    template = Path(__file__).with_suffix(".md").read_text()
    verdict = verdict_text(params, whole=True)
    with replacing(folder) as out:
        map_parallel(lambda draw: draw(), drawings(out, params, tables), "figures")
        write_text(out / "REPORT.md", report_text(template, params, tables, distances, verdict))
        write_metrics(out / "headline.json", headline_metrics(params, tables))


if __name__ == "__main__":
    main()
