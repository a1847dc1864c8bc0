"""Images made on every model's first seed, judged by the second seed of every model."""

import tla.guard  # noqa: F401

import pandas as pd

from tla.command import study_arguments
from tla.files import write_rows
from tla.measure.stage import Stage
from tla.measure.suite import transfer_columns


def source_rows(stage: Stage, source: str) -> pd.DataFrame:
    """source, idx, label, linf and pred_<target> of the images made on one model's network."""
    params = stage.params
    made, judged = params.seeds[:2]
    test = stage.test(judged, params.transfer.images)
    settings = {"attack": params.transfer.attack, "eps": params.attack.eps,
                "batch": params.evaluate.batch, "seed": made}
    key = stage.key(source, made, test, transfer_columns, settings)
    key["judges"] = [[model, stage.digest(model, judged)] for model in params.models]
    network = stage.network(source, made)

    def measured():
        judges = ((model, stage.network(model, judged)) for model in params.models)
        return transfer_columns(network, test, judges=judges, **settings)

    columns = stage.kept(source, made, "transfer", key, measured)
    rows = {"source": source, "idx": test.idx.cpu().numpy(), "label": test.y.cpu().numpy()}
    return pd.DataFrame(rows | {name: column.numpy() for name, column in columns.items()})


def main(argv: list[str] | None = None) -> None:
    stage = Stage(study_arguments(__doc__, argv))

    sources = stage.parallel(
        lambda source: source_rows(stage, source), stage.params.models, "transfer")

    write_rows(stage.rows / "transfer.csv.gz", pd.concat(sources))


if __name__ == "__main__":
    main()
