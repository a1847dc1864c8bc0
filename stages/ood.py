"""Out-of-distribution detection: do the scores of the detect stage tell test images from images of another kind?"""

import pandas as pd
import torch

from tla.core.chance import stream
from tla.core.data import TEST, TRAIN
from tla.detection import SCORES, auc
from tla.elsewhere import elsewhere
from tla.embedding import Normality, outputs
from tla.files import write_metrics, write_rows, write_table
from tla.study import Columns, Study


def scored(study: Study, model: str, seed: int) -> Columns:
    """Scores of test images and of images from elsewhere, [n] each; `source` counts the sources from 1, 0 = test."""
    settings, detect, batch = study.params.ood, study.params.detect, study.params.evaluate.batch
    network, position = study.network(model, seed), study.params.seeds.index(seed)
    train, test = study.data.split(position, TRAIN), study.data.split(position, TEST).first(settings.images)
    normality = Normality(outputs(network, train.x, batch).embedding, detect.neighbors, detect.components,
                          detect.covariance, seed)
    generator, parts = stream(seed, "queries", torch.device("cpu")), []
    kinds = [test.x] + [elsewhere(source, study.data.shape, settings.images, generator).to(study.device)
                        for source in settings.sources]
    for i, x in enumerate(kinds):
        scores = normality.scores(outputs(network, x, batch))
        parts.append({"source": torch.full((len(x),), i)} | {k: torch.as_tensor(v) for k, v in scores.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def table(rows: pd.DataFrame, sources: list[str]) -> pd.DataFrame:
    """AUC per model, source and score: mean over seeds and standard deviation."""
    lines = []
    for (model, _), part in rows.groupby(["model", "seed"], sort=False):
        for i, source in enumerate(sources, start=1):
            both = part[part.source.isin([0, i])]
            lines += [{"model": model, "source": source, "score": score,
                       "auc": auc((both.source == i).to_numpy(), both[score].to_numpy())} for score in SCORES]
    return pd.DataFrame(lines).groupby(["model", "source", "score"], sort=False, as_index=False).agg(
        auc=("auc", "mean"), std=("auc", "std"), seeds=("auc", "count"))


def main(argv: list[str] | None = None) -> None:
    study = Study(__doc__, argv)
    study.models = ["um", "at", "alp", "trades", study.models[-1]]

    settings = study.params.ood, study.params.detect
    rows = study.each("ood", lambda *job: scored(study, *job), study.params.seeds, *settings)
    auc_table = table(rows, study.params.ood.sources)

    write_rows(study.rows / "ood.csv.gz", rows)
    write_table(study.reports / "tables" / "ood.csv", auc_table)
    write_metrics(study.reports / "metrics" / "ood.json", {
        f"{line.model}_{line.source}_{line.score}_auc": line.auc for line in auc_table.itertuples()})


if __name__ == "__main__":
    main()
