"""Misclassification detection: how well normality scores tell wrong from right, and adversarial from clean."""

import numpy as np
import pandas as pd

from tla.core.attacks import LOSSES, pgd_linf, random_start
from tla.core.chance import stream
from tla.core.data import TEST, TRAIN
from tla.core.runtime import ModelStage
from tla.detection import SCORES, auc_metrics, roc_table
from tla.embedding import Normality, outputs
from tla.files import write_metrics, write_rows, write_table
from tla.referee import check


def detect_seed(stage: ModelStage, position: int, seed: int) -> pd.DataFrame:
    """Scores of every clean test image and of its adversarial image at each eps, one row an image and eps."""
    settings, batch = stage.params.detect, stage.params.evaluate.batch
    train, test = stage.data.split(position, TRAIN), stage.data.split(position, TEST)
    network = stage.network(seed)
    normality = Normality(outputs(network, train.x, batch).embedding, settings.neighbors,
                          settings.components, settings.covariance, seed)
    clean = outputs(network, test.x, batch)
    before = {f"clean_{name}": score for name, score in normality.scores(clean).items()}
    generator, frames = stream(seed, "detection", stage.device), []
    for factor in settings.eps_factors:
        eps = factor * stage.params.attack.eps
        x_adv = pgd_linf(lambda x: network(x)[0], test.x, test.y, eps=eps, steps=settings.steps,
                         step_size=settings.step_fraction * eps, loss=LOSSES["cross_entropy"],
                         start=random_start(test.x, eps, generator))
        linf, adversarial = check(test.x, x_adv, eps), outputs(network, x_adv, batch)
        after = {f"adv_{name}": score for name, score in normality.scores(adversarial).items()}
        frames.append(pd.DataFrame({
            "seed": seed, "eps_factor": factor, "idx": test.idx.cpu(), "label": test.y.cpu(), "linf": linf,
            "clean_pred": clean.prediction, "adv_pred": adversarial.prediction, **before, **after}))
    return pd.concat(frames)


def main(argv: list[str] | None = None) -> None:
    stage = ModelStage(__doc__, argv)

    rows = pd.concat(stage.for_each_seed(lambda position, seed: detect_seed(stage, position, seed)))

    write_rows(stage.rows / f"detect-{stage.model}.csv.gz", rows)
    write_metrics(stage.reports / "metrics" / f"detect-{stage.model}.json", auc_metrics(rows, SCORES))
    write_table(stage.reports / "plots" / f"roc-{stage.model}.csv", roc_table(rows, SCORES, np.linspace(0, 1, 41)))


if __name__ == "__main__":
    main()
