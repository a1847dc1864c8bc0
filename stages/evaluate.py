"""Attack every test image of every seed of one model with the white-box suite."""

import dataclasses
import hashlib
import json
from itertools import product
from zlib import crc32

import pandas as pd
from torch import Tensor

from tla.core.chance import stream
from tla.core.checkpoints import code_fingerprint
from tla.core.data import TEST
from tla.core.resume import Resume
from tla.core.runtime import ModelStage, map_parallel
from tla.evaluation import attack_columns, check_model, clean_columns
from tla.files import write_metrics, write_rows, write_table
from tla.params import UserError
from tla.rows import accuracy_metrics, accuracy_table


def attack_seed(stage: ModelStage, position: int, name: str) -> tuple[dict[str, Tensor], Resume]:
    """Columns of one attack on one seed; a stopped stage does not repeat the long ones it has finished."""
    params, seed = stage.params, stage.params.seeds[position]
    attack, weights = params.evaluate.attacks[name], stage.path(seed)
    images = params.evaluate.images(name, str(stage.model))
    network, split = stage.network(seed), stage.data.split(position, TEST).first(images)
    key = [dataclasses.asdict(attack), params.attack.eps, hashlib.sha256(weights.read_bytes()).hexdigest(),
           images, params.evaluate.batch, code_fingerprint()]
    resume = Resume(f"{params.dataset}-{stage.model}-{seed}-{name}", json.dumps(key))
    if not (columns := resume.load(stage.device)):
        columns = attack_columns(network, split, name, attack, eps=params.attack.eps, batch=params.evaluate.batch,
                                 generator=stream(seed, "evaluation", stage.device, crc32(name.encode())))
        resume.keep(lambda: columns)
    return columns, resume


def main(argv: list[str] | None = None) -> None:
    stage = ModelStage(__doc__, argv)
    params, model = stage.params, stage.model

    for position, seed in enumerate(params.seeds):
        try:
            check_model(stage.network(seed), stage.data.split(position, TEST).x[:100], stage.data.classes)
        except ValueError as error:
            raise UserError(f"{stage.path(seed)}: the model {error}") from None

    # Long attacks first, so that no core is left alone with one at the end.
    attacks = sorted(params.evaluate.attacks, key=lambda name: -cost(params.evaluate.attacks[name]))
    jobs = list(product(attacks, range(len(params.seeds))))
    results = map_parallel(lambda job: attack_seed(stage, job[1], job[0]), jobs, stage.device, f"attacks on {model}")
    columns = {job: columns for job, (columns, _) in zip(jobs, results, strict=True)}

    def seed_rows(position: int, seed: int) -> pd.DataFrame:
        split = stage.data.split(position, TEST)
        frame = clean_columns(stage.network(seed), split, params.evaluate.batch)
        for name in params.evaluate.attacks:
            frame |= columns[name, position]
        # Series, so that an attack on the first images only leaves the others empty.
        return pd.DataFrame({"seed": seed} | {k: pd.Series(v.cpu().numpy()) for k, v in frame.items()})

    frames = [seed_rows(position, seed) for position, seed in enumerate(params.seeds)]
    rows = pd.concat(frames)
    table = accuracy_table(rows)

    write_rows(stage.rows / f"{model}.csv.gz", rows)
    write_table(stage.reports / "accuracy" / f"{model}.csv", table)
    write_metrics(stage.reports / "metrics" / f"{model}.json", accuracy_metrics(table))
    for _, resume in results:
        resume.forget()


def cost(attack) -> int:
    """Gradient steps an image takes at the most, savings aside."""
    return attack.steps[-1] * attack.restarts


if __name__ == "__main__":
    main()
