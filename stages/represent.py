"""Look into the embedding of one model: detection, retrieval, images from elsewhere, pictures."""

import tla.guard  # noqa: F401

import numpy as np
import pandas as pd
import torch

from tla.command import model_arguments
from tla.files import write_metrics, write_rows, write_table
from tla.measure.aware import aware_rows
from tla.measure.elsewhere import ood_rows
from tla.measure.embedding import Normality, detection_rows, outputs, plane
from tla.measure.masking import surfaces
from tla.measure.mismatch import mismatch_rows
from tla.measure.pictures import write_tiles
from tla.measure.referee import check
from tla.measure.retrieval import class_distances, figure, neighbor_columns, retrieve
from tla.measure.stage import Stage
from tla.measure.suite import attacked
from tla.train.chance import stream
from tla.train.data import TRAIN

ROWS = ("detect", "aware", "neighbors", "mismatch", "ood")


def measured(stage: Stage, model: str, seed: int) -> dict[str, object]:
    """The rows of ROWS of one seed, and the figure's pixels and captions."""
    params, eps, batch = stage.params, stage.params.attack.eps, stage.params.evaluate.batch
    network, test = stage.network(model, seed), stage.test(seed, params.represent.queries)
    train = stage.sample(seed, TRAIN, None)
    gallery, clean = outputs(network, train.x, batch), outputs(network, test.x, batch)
    normality = Normality(gallery.embedding, params.detect, seed)
    found = {"detect": detection_rows(
        network, test, clean, normality, params.detect, eps=eps, batch=batch,
        generator=stream(seed, "detection", stage.device))}
    found["aware"] = aware_rows(
        network, stage.test(seed, params.detect.aware.images), normality, params.detect, eps=eps,
        batch=batch, generator=stream(seed, "detection", stage.device, 1))
    found["ood"] = ood_rows(
        network, normality, stage.test(seed, params.ood.images).x, params.ood, batch=batch,
        generator=stream(seed, "queries", torch.device("cpu")))

    x_adv = attacked(network, test, params.neighbors.attack, eps=eps, batch=batch,
                     generator=stream(seed, "queries", stage.device))
    y, labels = test.y.cpu().numpy(), train.y.cpu().numpy()
    columns = {"idx": test.idx.cpu(), "label": y, "linf": check(test.x, x_adv, eps)}
    for kind, out in (("clean", clean), ("adv", outputs(network, x_adv, batch))):
        rows, _ = retrieve(gallery.embedding, out.embedding, params.neighbors.k)
        columns[f"{kind}_pred"] = out.prediction
        columns |= neighbor_columns(kind, labels[rows], y, stage.data.classes)
    found["neighbors"] = pd.DataFrame(columns)
    found["mismatch"] = mismatch_rows(
        network, stage.test(seed, params.neighbors.mismatch.images), gallery, labels,
        stage.data.classes, params.neighbors, eps=eps, batch=batch)
    found["pixels"], found["captions"] = figure(
        test, x_adv, out.prediction, rows, train, params.neighbors)
    for name in ROWS:
        found[name].insert(0, "seed", seed)
    return found


def points(stage: Stage, model: str, seed: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """t-SNE of some clean and adversarial test images of one seed, and distances of classes."""
    params, batch = stage.params, stage.params.evaluate.batch
    network, test = stage.network(model, seed), stage.test(seed, params.represent.images)
    x_adv = attacked(network, test, params.represent.attack, eps=params.attack.eps, batch=batch,
                     generator=stream(seed, "queries", stage.device))
    clean, adv = outputs(network, test.x, batch), outputs(network, x_adv, batch)
    y, metrics = test.y.cpu().numpy(), {}
    for kind, out in (("clean", clean), ("adv", adv)):
        same, other = class_distances(out.embedding, y, clean.embedding, y)
        metrics[f"{kind}_same_class_distance"] = same
        metrics[f"{kind}_other_class_distance"] = other
    xy = plane(np.concatenate([clean.embedding, adv.embedding]), params.represent, seed)
    return pd.DataFrame({
        "kind": np.repeat(["clean", "adv"], len(y)), "idx": np.tile(test.idx.cpu(), 2),
        "label": np.tile(y, 2), "pred": np.concatenate([clean.prediction, adv.prediction]),
        "x": xy[:, 0], "y": xy[:, 1]}), metrics


def main(argv: list[str] | None = None) -> None:
    params, model = model_arguments(__doc__, argv)
    stage = Stage(params)
    first, second = params.seeds[:2]
    seeds = stage.parallel(
        lambda seed: measured(stage, model, seed), params.seeds, f"embeddings of {model}")
    tsne, metrics = points(stage, model, first)
    planes = surfaces(stage.network(model, second), stage.test(second, params.masking.surfaces),
                      params.attack.eps, params.masking.points, second)

    rows = {name: pd.concat([seed[name] for seed in seeds]) for name in ROWS}
    for kind in ("clean", "adv"):
        right, precision = rows["neighbors"][f"{kind}_knn"], rows["neighbors"][f"{kind}_precision"]
        metrics[f"{kind}_knn_accuracy"] = float((right == rows["neighbors"].label).mean())
        metrics[f"{kind}_precision_at_{params.neighbors.k}"] = float(precision.mean())
    for name, part in rows.items():
        write_rows(stage.embedding / model / f"{name}.csv.gz", part)
    folder = stage.reports / "represent" / model
    write_tiles(folder / "neighbors.png", seeds[0]["pixels"])
    write_table(folder / "neighbors.csv", seeds[0]["captions"])
    write_table(folder / "tsne.csv", tsne)
    write_table(folder / "surface.csv", planes)
    write_metrics(stage.reports / "metrics" / f"represent-{model}.json", metrics)


if __name__ == "__main__":
    main()
