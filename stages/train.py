"""Train every seed of one model and keep, for each, the checkpoint chosen on validation images."""

from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from tla.command import model_arguments
from tla.files import write_table
from tla.train.chance import deterministic
from tla.train.checkpoints import model_path, save_model, training_key
from tla.train.data import Dataset
from tla.train.resume import Resume
from tla.train.training import Trainer, train_model
from tla.workers import map_parallel


def main(argv: list[str] | None = None) -> None:
    params, model = model_arguments(__doc__, argv)
    device = deterministic()
    data = Dataset(Path("data", params.dataset, "prepared"), device)
    resumes = [Resume(f"{params.dataset}-{model}-{seed}", training_key(params, model, position))
               for position, seed in enumerate(params.seeds)]

    def train_seed(position: int) -> pd.DataFrame:
        seed = params.seeds[position]
        watch = partial(tqdm, desc=f"{model} seed {seed}", unit="epoch", position=position + 1,
                        leave=False, disable=None)
        trainer = Trainer(params, model, seed, position, data)
        network, log = train_model(trainer, resumes[position], watch)
        save_model(model_path(params, model, seed), network, params, model, seed, data)
        return pd.DataFrame(log)

    logs = map_parallel(train_seed, range(len(params.seeds)), f"seeds of {model}",
                        parallel=device.type == "cpu")
    for resume in resumes:
        resume.forget()
    write_table(Path("reports", params.dataset, "training", f"{model}.csv"), pd.concat(logs))


if __name__ == "__main__":
    main()
