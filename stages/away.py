"""Train some models and seeds, then attack them and look into their embeddings, without DVC.

What is finished lies under data/ and is not done again, so this may be stopped at any moment.
"""

import tla.guard  # noqa: F401

import argparse
import platform
from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from safetensors.numpy import load_file
from tqdm import tqdm

import evaluate
import represent
from tla.command import Parser
from tla.files import write_table
from tla.measure.stage import Job, Stage
from tla.params import Params, UserError
from tla.train.checkpoints import save_model, training_key
from tla.train.data import SOURCES, Raw
from tla.train.methods import load_study, parse_model
from tla.train.resume import Resume
from tla.train.training import Trainer, train_model

PACKED = Path("data", "remote", "sources")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which models and seeds."""
    parser.add_argument("config", help="params.yaml of the study")
    parser.add_argument("--models", nargs="+", required=True, help="models of the study")
    parser.add_argument("--seeds", nargs="+", type=int, required=True, help="seeds of the study")


def chosen_of(params: Params, models: list[str], seeds: list[int]) -> list[tuple[str, int]]:
    """Every one of the models with every seed. Raises UserError for others than the study's."""
    for model in models:
        parse_model(model, params)
        if unknown := sorted(set(seeds) - set(params.seeds_of(model))):
            raise UserError(f"{params.config}: seeds: {unknown[0]} is not among those of {model}")
    return list(product(models, seeds))


def log_path(params: Params, model: str, seed: int) -> Path:
    """Where the training log of one seed waits for those of the others."""
    return Path("data", "unfinished", f"{params.dataset}-{model}-{seed}.csv")


def train(stage: Stage, model: str, seed: int) -> None:
    """Weights and log of one seed; its state is saved after every epoch."""
    params, position = stage.params, stage.params.seeds.index(seed)
    resume = Resume(log_path(params, model, seed).stem, training_key(params, model, seed),
                    seconds=0)
    trainer = Trainer(params.trained_with(model), model, seed, position, stage.data)
    network, log = train_model(trainer, resume, partial(tqdm, unit="epoch"))
    write_table(log_path(params, model, seed), pd.DataFrame(log))
    save_model(stage.path(model, seed), network, params, model, seed, stage.data)
    resume.forget()


def jobs_of(stage: Stage) -> list[Job]:
    """All that `evaluate` measures of a model, the short attacks first."""
    params, seeds = stage.params, stage.params.seeds
    jobs = [*evaluate.suite_jobs(params, seeds), *evaluate.norm_jobs(params, seeds),
            *evaluate.other_jobs(params, stage.data.classes)]
    return sorted(jobs, key=lambda job: job.passes)


def use_packed_sources() -> None:
    """Images that `represent` draws from come as they were packed, not from their own files."""
    for path in PACKED.glob("*.safetensors"):
        arrays = load_file(path)
        raw = Raw(arrays["x"], arrays["y"], arrays["scale"].item(), arrays["test"].item())
        SOURCES[path.stem] = lambda raw=raw: raw


def main(argv: list[str] | None = None) -> None:
    parser = Parser(description=__doc__)
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    params = load_study(arguments.config)
    chosen = chosen_of(params, arguments.models, arguments.seeds)
    use_packed_sources()
    stage = Stage(params)
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {stage.device}")

    for model, seed in chosen:
        if not stage.path(model, seed).exists():
            print(f"{model}, seed {seed}: training", flush=True)
            train(stage, model, seed)
    for (model, seed), job in product(chosen, jobs_of(stage)):
        if job.seed == seed:
            print(f"{model}, seed {seed}: {job.name}", flush=True)
            stage.measure(model, [job])
    for model, seed in chosen:
        for look in represent.looks(params, model, seed):
            print(f"{model}, seed {seed}: {represent.kept_name(look)}", flush=True)
            represent.looked(stage, model, seed, look)


if __name__ == "__main__":
    main()
