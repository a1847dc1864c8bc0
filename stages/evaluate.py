"""Attack every seed of one model: the suite, other norms, textbook attacks, signs of masking.

And count what a step of its training sends through the network.
"""

import tla.guard  # noqa: F401

from dataclasses import replace

import pandas as pd

from tla.command import model_arguments
from tla.files import write_arrays, write_metrics, write_rows
from tla.measure.broken import IMAGES, broken_images, columns_and_images
from tla.measure.jobs import attack_job, clean_job
from tla.measure.masking import masking_columns
from tla.measure.norms import (
    ATTACKS,
    apgd_columns,
    ddn_columns,
    fmn_columns,
    norm_metrics,
    pointwise_columns,
    with_unions,
)
from tla.measure.passes import cost_rows
from tla.measure.queries import hop_skip_columns
from tla.measure.stage import Job, Stage
from tla.measure.suite import seed_rows, suite_metrics, suite_rows
from tla.measure.textbook import leaking_columns, textbook_columns
from tla.params import Params
from tla.train.data import TEST, TRAIN

LEAKING = {"train": TRAIN, "test": TEST}


def suite_jobs(params: Params, seeds: list[int]) -> list[Job]:
    """Every attack of the suite on those of the seeds that it sees, and the clean images."""
    settings, shown = params.evaluate, (params.evaluate.broken.attack, params.seeds[0])
    jobs = [clean_job(params, seed, TEST, None) for seed in seeds]
    for name in settings.attacks:
        for seed in [seed for seed in settings.seeds.get(name, seeds) if seed in seeds]:
            job = attack_job(params, name, seed, TEST, settings.images.get(name))
            if (name, seed) == shown:
                job = replace(job, function=columns_and_images)
            jobs.append(job)
    return jobs


def other_jobs(params: Params, classes: int) -> list[Job]:
    """Textbook attacks and label leaking on the first seed, masking on the second."""
    first, second = params.seeds[:2]
    textbook, masking, hop_skip = params.textbook, params.masking, params.hop_skip
    common = {"eps": params.attack.eps, "batch": params.evaluate.batch}
    jobs = [
        Job("textbook", first, TEST, textbook.images, None,
            4 * textbook.steps * (textbook.halvings + 2), textbook_columns,
            {"settings": textbook, "classes": classes, "seed": first} | common),
        Job("masking", second, TEST, masking.images, None,
            2 * masking.steps * (len(masking.eps_factors) + 1), masking_columns,
            {"settings": masking} | common),
        Job("hop-skip", second, TEST, hop_skip.images, None,
            hop_skip.iterations * hop_skip.evaluations, hop_skip_columns,
            {"settings": hop_skip, "seed": second})]
    for name, part in LEAKING.items():
        jobs.append(Job(f"leaking-{name}", first, part, textbook.leaking_images, None, 10,
                        leaking_columns, {"factors": textbook.leaking_factors} | common))
    return jobs


def norm_jobs(params: Params, seeds: list[int]) -> list[Job]:
    """Attacks in L2 and L0 on a sample of the test images of each of the seeds."""
    norms, batch, jobs = params.norms, params.evaluate.batch, []
    l2, l0 = norms.l2_radii, norms.l0_radii
    runs = len(l2) * (1 + norms.apgd.targets)
    for name, function, radii, settings, passes in (
            ("l2-apgd", apgd_columns, l2, norms.apgd, 2 * runs * norms.apgd.steps),
            ("l2-ddn", ddn_columns, l2, norms.ddn, 2 * norms.ddn.steps),
            ("l0-fmn", fmn_columns, l0, norms.fmn, 2 * norms.fmn.steps),
            ("l0-pointwise", pointwise_columns, l0, norms.pointwise,
             4 * norms.pointwise.restarts * norms.pointwise.noise_steps)):
        for seed in seeds:
            jobs.append(Job(
                name, seed, TEST, norms.images, batch, passes, function,
                {"name": name, "radii": radii, "settings": settings, "batch": batch,
                 "seed": seed}))
    return jobs


def norm_rows(params: Params, seeds: list[int],
              found: dict[tuple[str, int], pd.DataFrame]) -> pd.DataFrame:
    """What the norm jobs found, a row an image and seed."""
    rows, (first, *others) = [], [*ATTACKS["l2"], *ATTACKS["l0"]]
    for seed in seeds:
        rows.append(seed_rows(found[first, seed], [found[name, seed] for name in others]))
    return with_unions(pd.concat(rows, ignore_index=True), params.norms)


def main(argv: list[str] | None = None) -> None:
    params, model = model_arguments(__doc__, argv)
    stage, seeds = Stage(params), params.seeds_of(model)
    first, second = seeds[:2]
    found = stage.measure(model, suite_jobs(params, seeds) + norm_jobs(params, seeds)
                          + other_jobs(params, stage.data.classes))

    attacked = found[f"suite-{params.evaluate.broken.attack}", first]
    broken = broken_images(params, stage.data, attacked)
    del attacked[IMAGES]
    rows = []
    for seed in seeds:
        names = [f"suite-{name}" for name in params.evaluate.attacks]
        run = [found[name, seed] for name in names if (name, seed) in found]
        rows.append(seed_rows(found["clean", seed], run))
    suite = suite_rows(rows, params.evaluate)
    leaking = pd.concat([found[f"leaking-{name}", first].assign(part=name) for name in LEAKING])
    leaking.insert(1, "part", leaking.pop("part"))
    masking = seed_rows(found["masking", second], [found["hop-skip", second]])
    norms = norm_rows(params, seeds, found)

    folder = stage.rows / model
    write_rows(folder / "suite.csv.gz", suite)
    write_arrays(folder / "broken.npz", broken)
    write_rows(folder / "textbook.csv.gz", found["textbook", first])
    write_rows(folder / "leaking.csv.gz", leaking)
    write_rows(folder / "masking.csv.gz", masking)
    write_rows(folder / "norms.csv.gz", norms)
    write_rows(folder / "cost.csv.gz", cost_rows(stage, model))
    metrics = suite_metrics(suite, params.evaluate) | norm_metrics(norms)
    write_metrics(stage.reports / "metrics" / f"{model}.json", metrics)


if __name__ == "__main__":
    main()
