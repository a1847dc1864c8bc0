"""Where adversarial images go in the embedding: a t-SNE picture and distances within and between classes."""

import numpy as np
import pandas as pd
from sklearn.manifold import TSNE

from tla.core.attacks import run_attack
from tla.core.chance import stream
from tla.core.data import TEST
from tla.core.runtime import ModelStage
from tla.embedding import class_distances, outputs, unit
from tla.files import write_metrics, write_table
from tla.params import Represent
from tla.referee import check


def plane(embedding: np.ndarray, settings: Represent, seed: int) -> np.ndarray:
    """t-SNE of unit-length embeddings [n, d] under cosine distance, [n, 2]."""
    perplexity = min(settings.perplexity, (len(embedding) - 1) / 3)     # scikit-learn's bound for few images
    return TSNE(perplexity=perplexity, max_iter=settings.iterations, learning_rate=settings.learning_rate,
                metric="cosine", init="pca", random_state=seed).fit_transform(unit(embedding))


def main(argv: list[str] | None = None) -> None:
    stage = ModelStage(__doc__, argv)
    settings, eps, batch = stage.params.represent, stage.params.attack.eps, stage.params.evaluate.batch

    # One network is enough for a picture: the first seed's.
    seed = stage.params.seeds[0]
    network, test = stage.network(seed), stage.data.split(0, TEST)
    x, y, idx = (part[: settings.images] for part in (test.x, test.y, test.idx))
    x_adv = run_attack(lambda x: network(x)[0], x, y, settings.attack, eps=eps, convention="last",
                       generator=stream(seed, "queries", stage.device)).x_adv
    check(x, x_adv, eps)
    clean, adv = (outputs(network, images, batch) for images in (x, x_adv))
    y, idx = y.cpu().numpy(), idx.cpu().numpy()

    xy = plane(np.concatenate([clean.embedding, adv.embedding]), settings, seed)
    table = pd.DataFrame({
        "kind": np.repeat(["clean", "adv"], len(y)), "idx": np.tile(idx, 2), "label": np.tile(y, 2),
        "pred": np.concatenate([clean.prediction, adv.prediction]), "x": xy[:, 0], "y": xy[:, 1]})
    metrics = {}
    for kind, out in (("clean", clean), ("adv", adv)):
        same, other = class_distances(out.embedding, y, clean.embedding, y)
        metrics |= {f"{kind}_same_class_distance": same, f"{kind}_other_class_distance": other}

    write_table(stage.reports / "plots" / f"tsne-{stage.model}.csv", table)
    write_metrics(stage.reports / "metrics" / f"represent-{stage.model}.json", metrics)


if __name__ == "__main__":
    main()
