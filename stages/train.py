"""Train every seed of one model and keep, for each, the checkpoint chosen on validation images."""

import tla.guard  # noqa: F401

from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from tla.command import model_arguments
from tla.files import write_table
from tla.params import Params
from tla.train.chance import deterministic
from tla.train.checkpoints import model_path, save_model, training_key
from tla.train.data import Dataset
from tla.train.ranks import rank, size, together
from tla.train.resume import Resume
from tla.train.training import Trainer, train_model
from tla.workers import Opened, map_parallel


def prepared(params: Params) -> Dataset:
    """The prepared images on the device that this process computes on, deterministically."""
    return Dataset(Path("data", params.dataset, "prepared"), params, deterministic())


def main(argv: list[str] | None = None) -> None:
    params, model = model_arguments(__doc__, argv)
    images, seeds = Opened(prepared, params), params.seeds_of(model)
    keys = {seed: training_key(params, model, seed) for seed in seeds}

    def resume(seed: int) -> Resume:    # made where it is used: it reads that machine's clock
        return Resume(f"{params.dataset}-{model}-{seed}", keys[seed])

    def train_seed(seed: int) -> pd.DataFrame:
        position, data = seeds.index(seed), images.content
        watch = partial(tqdm, desc=f"{model} seed {seed}", unit="epoch", position=position + 1,
                        leave=False, disable=rank() > 0 or None)
        trainer = Trainer(params.trained_with(model), model, seed, position, data)
        network, log = train_model(trainer, resume(seed), watch)
        if rank() == 0:
            save_model(model_path(params, model, seed), network, params, model, seed, data)
        return pd.DataFrame(log)

    if size() > 1:      # torchrun: all processes at one seed after the other
        logs = [train_seed(seed) for seed in seeds]
    else:
        logs = map_parallel(train_seed, seeds, f"seeds of {model}",
                            parallel=images.content.x.device.type == "cpu")
    if rank() > 0:
        return
    for seed in seeds:
        resume(seed).forget()
    write_table(Path("reports", params.dataset, "training", f"{model}.csv"), pd.concat(logs))


if __name__ == "__main__":
    with together():
        main()
