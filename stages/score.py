"""Attack a model of your own as a study's are attacked, and set it among them.

Not part of the graph: it reads a study's parameters, images and reports, and writes to --out alone.
"""

import tla.guard  # noqa: F401

import argparse
import os
from pathlib import Path

import pandas as pd
import torch

import prepare
import represent
from evaluate import other_jobs, suite_jobs
from tla.command import Parser
from tla.files import read_rows, write_rows, write_text
from tla.measure.external import FORMS, load_external
from tla.measure.scored import PIXELS, Scored, write_images
from tla.measure.stage import Job
from tla.measure.suite import seed_rows, suite_metrics, suite_rows
from tla.params import Params, UserError
from tla.report.fill import fill
from tla.report.labels import eps_label, percent
from tla.report.standing import (
    embedding_facts,
    masked_models,
    masking_signs,
    standing_table,
    suite_facts,
)
from tla.report.text import area
from tla.train.methods import load_study
from tla.workers import Opened


def arguments_of(argv: list[str] | None) -> argparse.Namespace:
    """The command line. Raises UserError for a number of images or a device that cannot be."""
    parser = Parser(description=__doc__)
    parser.add_argument("--model", required=True, help=FORMS)
    parser.add_argument("--weights", help="for a Python file: safetensors, or a state dict that "
                        "torch.save wrote; none: those that its function sets")
    parser.add_argument("--study", default="params.yaml", help="params.yaml of the study")
    parser.add_argument("--images", type=count, help="so many test images; none: all")
    parser.add_argument("--device", help="cpu or cuda; none: a GPU where there is one")
    parser.add_argument("--save", action="store_true", help="write the adversarial images too")
    parser.add_argument("--out", type=Path, help="folder; none: scores/<data set>/<model's file>")
    arguments = parser.parse_args(argv)
    choose_device(arguments.device)
    return arguments


def count(text: str) -> int:
    """A number of images."""
    if not (text.isdecimal() and len(text) < 10 and int(text)):
        raise UserError(f"--images: {text!r:.60} is no number of images; leave it out for all")
    return int(text)


def choose_device(name: str | None) -> None:
    """Raise UserError for a device that is not there; the stages take a GPU that they can see."""
    if name not in (None, "cpu", "cuda"):
        raise UserError(f"--device: {name!r} is neither cpu nor cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device: cuda was asked for, and torch sees no GPU here; take cpu")
    if name == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def jobs_of(params: Params, classes: int) -> list[Job]:
    """The suite, signs of masking and HopSkipJump, on the study's second seed."""
    jobs = suite_jobs(params, [params.seeds[1]])
    return jobs + [job for job in other_jobs(params, classes)
                   if job.name in ("masking", "hop-skip")]


def measured(stage: Scored, jobs: list[Job]) -> dict[str, pd.DataFrame]:
    """Rows suite and masking, transfer where the study has models here, and of a model with an
    embedding detect and neighbors."""
    try:
        found = {name: rows for (name, _), rows in stage.measure(stage.name, jobs).items()}
        suite = [found[job.name] for job in jobs if job.name.startswith("suite-")]
        rows = {"suite": suite_rows([seed_rows(found["clean"], suite)], stage.params.evaluate),
                "masking": seed_rows(found["masking"], [found["hop-skip"]])}
        if sources := stage.sources():
            rows["transfer"] = stage.transferred(sources)
        if stage.embeds():
            seen = represent.detected(stage, stage.name, stage.seed)
            seen |= represent.retrieved(stage, stage.name, stage.seed)
            rows |= {name: seen[name] for name in ("detect", "neighbors")}
    except ValueError as error:     # it stopped being fit on an image that an attack made
        raise UserError(f"{stage.name}: {error}") from None
    return rows


def save_images(stage: Scored, jobs: list[Job], suite: pd.DataFrame, out: Path) -> None:
    """One file for each attack of the suite."""
    params, by_image = stage.params, suite.set_index("idx")
    for job in jobs:
        if job.name.startswith("suite-"):
            name = job.settings["name"]
            split, x = stage.adversarial(job)
            prediction = by_image.loc[split.idx.tolist(), f"{name}_pred"]
            images = {"x": x, "prediction": torch.tensor(prediction.tolist(), dtype=torch.long,
                                                         device=x.device)}
            write_images(out / f"{name}.safetensors", stage.external, split, images,
                         eps=params.attack.eps, batch=params.evaluate.batch,
                         about={"attack": name, "study": params.dataset, "model": stage.name})


def report(stage: Scored, rows: dict[str, pd.DataFrame]) -> str:
    """What is printed and written: the table, signs of masking, and what each number means."""
    params, suite, masking = stage.params, rows["suite"], rows["masking"]
    signs = masking_signs(params, suite, masking, rows.get("transfer"))
    table = standing_table(params, stage.name, suite_metrics(suite, params.evaluate))
    embedding = None
    if "detect" in rows:
        embedding = embedding_facts(params, rows["detect"], rows["neighbors"])
    template = Path(__file__).with_suffix(".md").read_text()
    return fill(template, {"percent": percent, "area": area, "comma": "{:,}".format,
                           "eps": eps_label},
                params=params, name=stage.name, seed=stage.seed, digest=stage.loaded.digest,
                shape=map(str, stage.data.shape), table=table, signs=signs, embedding=embedding,
                masked=masked_models(params), masking_images=len(masking), saved=stage.save,
                pixels=PIXELS, sources=stage.sources(), **suite_facts(params, suite, masking))


def main(argv: list[str] | None = None) -> None:
    arguments = arguments_of(argv)
    params = load_study(arguments.study)
    opened = Opened(load_external, arguments.model, arguments.weights)
    file = Path(arguments.model.partition(":")[0])
    out = arguments.out or Path("scores", params.dataset, file.stem)
    if not Path("data", params.dataset, "prepared", "images.safetensors").exists():
        prepare.main([arguments.study])
    stage = Scored(params, arguments.model, opened, arguments.images, out / "kept", arguments.save)
    stage.check()
    print(f"{arguments.model}: fit to be attacked; taken to want pixels in [0, 1] and to normalise "
          "them itself", flush=True)
    jobs = jobs_of(params, stage.data.classes)
    rows = {}
    for name, part in measured(stage, jobs).items():
        write_rows(out / f"{name}.csv.gz", part)
        rows[name] = read_rows(out / f"{name}.csv.gz")
    if arguments.save:
        save_images(stage, jobs, rows["suite"], out / "adversarial")
    text = report(stage, rows)
    write_text(out / "report.md", text)
    print(text)


if __name__ == "__main__":
    main()
