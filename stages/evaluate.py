"""Attack every test image of every seed of one model with the white-box suite."""

import pandas as pd

from tla.chance import stream
from tla.data import TEST
from tla.evaluation import attack_rows
from tla.files import write_metrics, write_rows, write_table
from tla.rows import accuracy_metrics, accuracy_table
from tla.runtime import ModelStage


def main(argv: list[str] | None = None) -> None:
    stage = ModelStage(__doc__, argv)
    params, model = stage.params, stage.model

    def evaluate_seed(position: int, seed: int) -> pd.DataFrame:
        rows = attack_rows(
            stage.network(seed), stage.data.split(position, TEST), params.evaluate.attacks,
            eps=params.attack.eps, batch=params.evaluate.batch,
            generator=stream(seed, "evaluation", stage.device), title=f"{model} seed {seed}", position=position)
        rows.insert(0, "seed", seed)
        return rows

    rows = pd.concat(stage.for_each_seed(evaluate_seed))
    table = accuracy_table(rows)

    write_rows(stage.rows / f"{model}.csv.gz", rows)
    write_table(stage.reports / "accuracy" / f"{model}.csv", table)
    write_metrics(stage.reports / "metrics" / f"{model}.json", accuracy_metrics(table))


if __name__ == "__main__":
    main()
