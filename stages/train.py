"""Train every seed of one model and keep, for each, the checkpoint chosen on validation images."""

import pandas as pd

from tla.core.checkpoints import save_model, training_key
from tla.core.resume import Resume
from tla.core.runtime import ModelStage
from tla.core.training import train_model
from tla.files import write_table


def main(argv: list[str] | None = None) -> None:
    stage = ModelStage(__doc__, argv)

    resumes = [Resume(f"{stage.params.dataset}-{stage.model}-{seed}", training_key(stage.params, stage.model, position))
               for position, seed in enumerate(stage.params.seeds)]

    def train_seed(position: int, seed: int) -> pd.DataFrame:
        network, log = train_model(stage.params, stage.model, seed, position, stage.data, resumes[position])
        save_model(stage.path(seed), network, stage.params, stage.model, seed, stage.data)
        return pd.DataFrame(log)

    logs = stage.for_each_seed(train_seed)
    for resume in resumes:
        resume.forget()
    write_table(stage.reports / "training" / f"{stage.model}.csv", pd.concat(logs))


if __name__ == "__main__":
    main()
