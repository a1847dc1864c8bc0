"""Nearest neighbours: which clean training images does the embedding of an adversarial image retrieve?"""

import numpy as np
import pandas as pd

from tla.core.attacks import run_attack
from tla.core.chance import stream
from tla.core.data import TEST, TRAIN
from tla.core.runtime import ModelStage
from tla.embedding import majority, outputs, retrieve
from tla.files import write_metrics, write_rows, write_table
from tla.pictures import write_tiles
from tla.referee import check


def neighbors_seed(stage: ModelStage, position: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Rows of one seed; pixels of a few queries and of what they retrieve; the labels to write under them."""
    settings, batch, classes = stage.params.neighbors, stage.params.evaluate.batch, stage.data.classes
    train, test = stage.data.split(position, TRAIN), stage.data.split(position, TEST)
    network, eps = stage.network(seed), stage.params.attack.eps
    x_adv = run_attack(lambda x: network(x)[0], test.x, test.y, settings.attack, eps=eps, convention="last",
                       generator=stream(seed, "queries", stage.device)).x_adv
    labels, y = train.y.cpu().numpy(), test.y.cpu().numpy()
    columns = {"seed": seed, "idx": test.idx.cpu(), "label": y, "linf": check(test.x, x_adv, eps)}
    gallery = outputs(network, train.x, batch).embedding
    for kind, images in (("clean", test.x), ("adv", x_adv)):
        out = outputs(network, images, batch)
        found = retrieve(gallery, out.embedding, settings.k)
        columns |= {f"{kind}_pred": out.prediction, f"{kind}_knn": majority(labels[found], classes),
                    f"{kind}_precision": (labels[found] == y[:, None]).mean(1)}
    # The first test image of each class, so that no query is chosen by its result.
    queries = np.unique(y, return_index=True)[1][: settings.queries]
    shown = found[queries, : settings.retrieved]
    pixels = np.concatenate([x_adv[queries].cpu().numpy()[:, None], train.x.cpu().numpy()[shown]], axis=1)
    captions = pd.DataFrame({"query": y[queries], "predicted": out.prediction[queries]} | {
        f"retrieved_{i + 1}": labels[shown[:, i]] for i in range(shown.shape[1])})
    return pd.DataFrame(columns), pixels, captions


def main(argv: list[str] | None = None) -> None:
    stage = ModelStage(__doc__, argv)

    seeds = stage.for_each_seed(lambda position, seed: neighbors_seed(stage, position, seed))
    rows, (_, pixels, captions) = pd.concat([seed[0] for seed in seeds]), seeds[0]
    metrics = {}
    for kind in ("clean", "adv"):
        metrics[f"{kind}_knn_accuracy"] = float((rows[f"{kind}_knn"] == rows.label).mean())
        metrics[f"{kind}_precision_at_{stage.params.neighbors.k}"] = float(rows[f"{kind}_precision"].mean())

    write_rows(stage.rows / f"neighbors-{stage.model}.csv.gz", rows)
    write_metrics(stage.reports / "metrics" / f"neighbors-{stage.model}.json", metrics)
    write_tiles(stage.reports / "plots" / f"neighbors-{stage.model}.png", pixels)
    write_table(stage.reports / "plots" / f"neighbors-{stage.model}.csv", captions)


if __name__ == "__main__":
    main()
