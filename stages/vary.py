"""Train the models of one variant, with other values than the study's, and attack them.

They are attacked as the study's models are. Neither their weights nor the state of their trainings
are results; both stay under data/, so that another attack trains nothing.
"""

import tla.guard  # noqa: F401

from itertools import product

import pandas as pd

from tla.command import variant_arguments
from tla.files import write_rows, write_table
from tla.measure.jobs import attack_job, clean_job
from tla.measure.passes import training_rows
from tla.measure.stage import Job, Stage
from tla.measure.suite import seed_rows
from tla.params import Params, Variant
from tla.train.checkpoints import save_model, training_key
from tla.train.data import PARTS
from tla.train.methods import variant_of
from tla.train.resume import Resume
from tla.train.training import Trainer, train_model


def trained(stage: Stage, name: str, variant: Variant) -> pd.DataFrame:
    """The training log of every model and seed of a variant, whose weights are then there."""
    params = stage.params

    def train_one(run: tuple[str, int]) -> pd.DataFrame:
        model, seed = run
        position = params.seeds.index(seed)
        resume = Resume(f"{params.dataset}-{name}-{model}-{seed}",
                        training_key(params, model, seed), seconds=0)
        trainer = Trainer(params.trained_with(model), model, seed, position, stage.data)
        network, log = train_model(trainer, resume, iter)
        save_model(stage.path(model, seed), network, params, model, seed, stage.data)
        return pd.DataFrame([{"model": model} | row for row in log])

    runs = list(product(variant.models, variant.seeds))
    return pd.concat(stage.parallel(train_one, runs, f"training {name}"))


def jobs(params: Params, variant: Variant) -> list[Job]:
    """The attacks on a variant's seeds, and the clean images of the largest sample."""
    attacks, part, found = params.variants.attacks, PARTS.index(params.variants.part), []
    for seed in variant.seeds:
        found.append(clean_job(params, seed, part, max(attacks.values())))
        for name, images in attacks.items():
            found.append(attack_job(params, name, seed, part, images))
    return found


def measured(stage: Stage, model: str, todo: list[Job]) -> pd.DataFrame:
    """A row per test image and seed of one model."""
    found, seeds = stage.measure(model, todo), []
    for seed in dict.fromkeys(job.seed for job in todo):
        clean, *attacked = (found[job.name, seed] for job in todo if job.seed == seed)
        seeds.append(seed_rows(clean, attacked))
    rows = pd.concat(seeds)
    rows.insert(0, "model", model)
    return rows


def main(argv: list[str] | None = None) -> None:
    params, name = variant_arguments(__doc__, argv)
    variant, within = params.variants.trained[name], f"variants/{name}"
    stage, todo = Stage(variant_of(params, name), within), jobs(params, variant)

    log = trained(stage, name, variant)
    suite = pd.concat([measured(stage, model, todo) for model in variant.models])
    cost = pd.concat([training_rows(stage, model) for model in variant.models])

    write_rows(stage.rows / within / "suite.csv.gz", suite)
    write_rows(stage.rows / within / "cost.csv.gz", cost)
    write_table(stage.reports / "training" / f"{within}.csv", log)


if __name__ == "__main__":
    main()
