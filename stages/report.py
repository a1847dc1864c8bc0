"""Figures, tables and REPORT.md of one data set, from the files under reports/ alone. Imports no torch."""

import argparse
from pathlib import Path

import pandas as pd

from tla import figures
from tla.files import read_metrics, write_metrics, write_table, write_text
from tla.names import model_label
from tla.params import Params, load_params, model_names
from tla.pictures import read_tiles
from tla.published import published
from tla.text import SCORES, TASKS, bars, mean_auc, poster_auc, read_tables, report_text, sweep

POSTER = ("at", "alp", "tla-b1", "tla-sa")      # the bars of the poster, beside TLA itself


def read_accuracy(folder: Path, params: Params) -> pd.DataFrame:
    """Accuracy tables of all models below each other, with columns name (tla-b1) and model (TLA-RN)."""
    tables = [pd.read_csv(folder / "accuracy" / f"{name}.csv", keep_default_na=False, na_values=[""])
              .assign(name=name, model=model_label(name, params)) for name in model_names(params)]
    table = pd.concat(tables)
    return table.assign(outcome=table.attack.where(table.attack == "clean", table.attack + "_" + table.convention))


def draw(folder: Path, params: Params, accuracy: pd.DataFrame) -> None:
    """The poster's five figures and the loss surfaces, and the numbers of two of them for `dvc plots`."""
    tla, out = f"tla-b{params.mining.batch}", folder / "figures"
    shown = [accuracy[accuracy.name == name] for name in dict.fromkeys((*POSTER, tla))]
    title = f"{params.dataset}, eps {params.attack.eps:.4g}"
    figures.save(figures.accuracy_bars(pd.concat(shown), bars(params), published(params, "bars"), title), out,
                 "accuracy")

    draw_roc(folder, params, accuracy.images.max())

    swept = accuracy[accuracy.name.str.startswith("tla-b")]
    swept = swept.assign(batch=swept.name.str.removeprefix("tla-b").astype(int))
    drawn = swept[swept.outcome.isin(list(sweep(params)))].assign(attack=lambda lines: lines.outcome.map(sweep(params)))
    write_table(folder / "plots" / "pool-sweep.csv", drawn[["attack", "batch", "accuracy", "low", "high"]])
    theirs = published(params, "pool sweep")
    figures.save(figures.pool_sweep(swept, sweep(params), theirs, params.mining.batch), out, "pool-sweep")

    shown = {model_label(name, params): folder / "plots" / f"neighbors-{name}" for name in ("at", tla)}
    captions = {label: pd.read_csv(path.with_suffix(".csv")) for label, path in shown.items()}
    tiles = {label: read_tiles(path.with_suffix(".png"), len(captions[label]), 1 + params.neighbors.retrieved)
             for label, path in shown.items()}
    figures.save(figures.neighbor_grid(tiles, captions), out, "neighbors")

    maps = {model_label(name, params): pd.read_csv(folder / "plots" / f"tsne-{name}.csv") for name in ("at", tla)}
    figures.save(figures.tsne_maps(maps), out, "tsne")

    planes = pd.read_csv(folder / "plots" / "loss-surface.csv")
    planes["model"] = [model_label(name, params) for name in planes.model]
    figures.save(figures.loss_surfaces(planes), out, "loss-surface")


def draw_roc(folder: Path, params: Params, images: int) -> None:
    """ROC curves at the middle eps, and their numbers for `dvc plots`; `images` as for mean_auc."""
    factor, curves, auc = params.detect.eps_factors[len(params.detect.eps_factors) // 2], [], {}
    for name in ("um", "at", "alp", f"tla-b{params.mining.batch}"):
        label, metrics = model_label(name, params), read_metrics(folder / "metrics" / f"detect-{name}.json")
        table = pd.read_csv(folder / "plots" / f"roc-{name}.csv")
        table = table[table.eps_factor == factor].assign(model=label)
        values = {(t, s): mean_auc(params, metrics, t, s, factor, images) for t in TASKS for s in SCORES}
        undefined = [values[key] is None for key in zip(table.task, table.score, strict=True)]
        curves.append(table.assign(fpr=table.fpr.mask(undefined), tpr=table.tpr.mask(undefined)))
        auc |= {(label, *key): value for key, value in values.items() if value is not None}
    table = pd.concat(curves)[["model", "task", "score", "fpr", "tpr"]]
    write_table(folder / "plots" / "roc.csv", table.dropna())
    note = f"adversarial images at eps = {factor:g} x training\n{poster_auc(params)}"
    figures.save(figures.roc_curves(table, auc, TASKS, SCORES, note), folder / "figures", "roc")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="params.yaml of the data set")
    params = load_params(parser.parse_args(argv).config)
    folder, tla = Path("reports", params.dataset), f"tla-b{params.mining.batch}"

    accuracy = read_accuracy(folder, params)
    draw(folder, params, accuracy)
    metrics = {name: read_metrics(folder / "metrics" / f"{name}.json") for name in (
        *(f"detect-{m}" for m in ("um", "at", "alp", tla)), *(f"neighbors-{m}" for m in ("at", "alp", tla)),
        *(f"represent-{m}" for m in ("at", tla)))}
    metrics["blackbox"] = read_metrics(folder / "metrics" / "blackbox.json")
    columns = ["name", "model", "outcome", "accuracy", "low", "high", "std", "images", "seeds"]
    write_table(folder / "tables" / "accuracy.csv", accuracy[columns])
    template = Path(__file__).with_suffix(".md").read_text()
    write_text(folder / "REPORT.md", report_text(template, params, read_tables(params), metrics))

    # The current TLA under the method's name alone: an ablation then shows up as old -> new in a diff.
    headline = read_metrics(folder / "metrics" / f"{tla}.json") | {"mining_batch": params.mining.batch}
    for kind in ("detect", "neighbors", "represent"):
        headline |= {f"{kind}_{k}": v for k, v in metrics[f"{kind}-{tla}"].items()}
    write_metrics(folder / "metrics" / "tla.json", headline)


if __name__ == "__main__":
    main()
