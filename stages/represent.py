"""Look into the embedding of one model: detection, retrieval, images from elsewhere, pictures."""

import tla.guard  # noqa: F401

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from tla.command import model_arguments
from tla.files import write_metrics, write_rows, write_table
from tla.measure.aware import aware_rows
from tla.measure.elsewhere import ood_rows
from tla.measure.embedding import Normality, detection_rows, outputs, plane
from tla.measure.frames import columns_of, frames_of
from tla.measure.masking import surfaces
from tla.measure.mismatch import mismatch_rows
from tla.measure.pictures import write_tiles
from tla.measure.referee import check
from tla.measure.retrieval import class_distances, figure, neighbor_columns, retrieve
from tla.measure.stage import Stage
from tla.measure.suite import attacked
from tla.params import Params
from tla.sources import code_of
from tla.train.chance import stream
from tla.train.data import TRAIN
from tla.train.stored import digest_of

ROWS = ("detect", "aware", "neighbors", "mismatch", "ood")


def detected(stage: Stage, model: str, seed: int) -> dict[str, pd.DataFrame]:
    """The rows of one seed about how normal images look: detect, aware and ood."""
    params, eps, batch = stage.params, stage.params.attack.eps, stage.params.evaluate.batch
    network, test = stage.network(model, seed), stage.test(seed, params.represent.queries)
    gallery = outputs(network, stage.sample(seed, TRAIN, None).x, batch)
    normality = Normality(gallery.embedding, params.detect, seed)
    return of_seed(seed, {
        "detect": detection_rows(
            network, test, outputs(network, test.x, batch), normality, params.detect, eps=eps,
            batch=batch, generator=stream(seed, "detection", stage.device)),
        "aware": aware_rows(
            network, stage.test(seed, params.detect.aware.images), normality, params.detect,
            eps=eps, batch=batch, generator=stream(seed, "detection", stage.device, 1)),
        "ood": ood_rows(
            network, normality, stage.test(seed, params.ood.images).x, params.ood, batch=batch,
            generator=stream(seed, "queries", torch.device("cpu")))})


def retrieved(stage: Stage, model: str, seed: int) -> dict[str, pd.DataFrame | np.ndarray]:
    """The rows of one seed about neighbours, neighbors and mismatch; the figure's pixels and
    captions."""
    params, eps, batch = stage.params, stage.params.attack.eps, stage.params.evaluate.batch
    network, test = stage.network(model, seed), stage.test(seed, params.represent.queries)
    train = stage.sample(seed, TRAIN, None)
    gallery, clean = outputs(network, train.x, batch), outputs(network, test.x, batch)
    x_adv = attacked(network, test, params.neighbors.attack, eps=eps, batch=batch,
                     generator=stream(seed, "queries", stage.device))
    y, labels = test.y.cpu().numpy(), train.y.cpu().numpy()
    columns = {"idx": test.idx.cpu(), "label": y, "linf": check(test.x, x_adv, eps)}
    for kind, out in (("clean", clean), ("adv", outputs(network, x_adv, batch))):
        rows, _ = retrieve(gallery.embedding, out.embedding, params.neighbors.k)
        columns[f"{kind}_pred"] = out.prediction
        columns |= neighbor_columns(kind, labels[rows], y, stage.data.classes)
    mismatch = mismatch_rows(
        network, stage.test(seed, params.neighbors.mismatch.images), gallery, labels,
        stage.data.classes, params.neighbors, eps=eps, batch=batch)
    pixels, captions = figure(test, x_adv, out.prediction, rows, train, params.neighbors)
    found = of_seed(seed, {"neighbors": pd.DataFrame(columns), "mismatch": mismatch})
    return found | {"pixels": pixels, "captions": captions}


def of_seed(seed: int, found: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The same tables, which seed they are of in front."""
    for rows in found.values():
        rows.insert(0, "seed", seed)
    return found


def points(stage: Stage, model: str, seed: int) -> dict[str, pd.DataFrame]:
    """tsne of some clean and adversarial test images of one seed, and distances of classes."""
    params, batch = stage.params, stage.params.evaluate.batch
    network, test = stage.network(model, seed), stage.test(seed, params.represent.images)
    x_adv = attacked(network, test, params.represent.attack, eps=params.attack.eps, batch=batch,
                     generator=stream(seed, "queries", stage.device))
    clean, adv = outputs(network, test.x, batch), outputs(network, x_adv, batch)
    y, distances = test.y.cpu().numpy(), {}
    for kind, out in (("clean", clean), ("adv", adv)):
        same, other = class_distances(out.embedding, y, clean.embedding, y)
        distances[f"{kind}_same_class_distance"] = same
        distances[f"{kind}_other_class_distance"] = other
    xy = plane(np.concatenate([clean.embedding, adv.embedding]), params.represent, seed)
    tsne = pd.DataFrame({
        "kind": np.repeat(["clean", "adv"], len(y)), "idx": np.tile(test.idx.cpu(), 2),
        "label": np.tile(y, 2), "pred": np.concatenate([clean.prediction, adv.prediction]),
        "x": xy[:, 0], "y": xy[:, 1]})
    return {"tsne": tsne, "distances": pd.DataFrame([distances])}


def planes(stage: Stage, model: str, seed: int) -> dict[str, pd.DataFrame]:
    """The loss around a few test images of one seed: surface."""
    params = stage.params
    few = stage.test(seed, params.masking.surfaces)
    return {"surface": surfaces(stage.network(model, seed), few, params.attack.eps,
                                params.masking.points, seed)}


def looks(params: Params, model: str, seed: int) -> list[Callable]:
    """What is looked at of one seed of a model; pictures are of the first two seeds."""
    if model not in params.represent.models:
        return []
    pictures = {params.seeds[0]: [points], params.seeds[1]: [planes]}
    return [detected, retrieved, *pictures.get(seed, [])]


def kept_name(look: Callable) -> str:
    """Of what a look keeps, among the measurements of `evaluate`."""
    return f"represent-{look.__name__}"


def looked(stage: Stage, model: str, seed: int, look: Callable) -> dict[str, object]:
    """look(stage, model, seed), kept as the attacks of `evaluate` are."""
    params, data = stage.params, stage.data
    images = {"x": data.x, "y": data.y, "idx": data.idx,
              "part": data.part[params.seeds.index(seed)]}
    key = {"weights": stage.digest(model, seed), "images": digest_of(images),
           "settings": [params.attack.eps, params.evaluate.batch, params.evaluate.draws,
                        params.evaluate.sample_seed, params.masking, params.detect,
                        params.neighbors, params.represent, params.ood],
           "code": code_of("represent")}
    return frames_of(stage.kept(model, seed, kept_name(look), key,
                                lambda: columns_of(look(stage, model, seed))))


def main(argv: list[str] | None = None) -> None:
    params, model = model_arguments(__doc__, argv)
    stage = Stage(params)
    first, second = params.seeds[:2]
    work = [(seed, look) for seed in params.seeds for look in (detected, retrieved)]
    parts = stage.parallel(lambda one: looked(stage, model, *one), work, f"embeddings of {model}")
    found = defaultdict(list)
    for part in parts:
        for name, content in part.items():
            found[name].append(content)
    picture = looked(stage, model, first, points)
    metrics = picture["distances"].iloc[0].to_dict()

    rows = {name: pd.concat(found[name]) for name in ROWS}
    for kind in ("clean", "adv"):
        right, precision = rows["neighbors"][f"{kind}_knn"], rows["neighbors"][f"{kind}_precision"]
        metrics[f"{kind}_knn_accuracy"] = float((right == rows["neighbors"].label).mean())
        metrics[f"{kind}_precision_at_{params.neighbors.k}"] = float(precision.mean())
    for name, part in rows.items():
        write_rows(stage.embedding / model / f"{name}.csv.gz", part)
    folder = stage.reports / "represent" / model
    write_tiles(folder / "neighbors.png", found["pixels"][0])
    write_table(folder / "neighbors.csv", found["captions"][0])
    write_table(folder / "tsne.csv", picture["tsne"])
    write_table(folder / "surface.csv", looked(stage, model, second, planes)["surface"])
    write_metrics(stage.reports / "metrics" / f"represent-{model}.json", metrics)


if __name__ == "__main__":
    main()
