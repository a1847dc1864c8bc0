"""Attacks without gradients: every model's adversarial images against every other, Square and HopSkipJump."""

from itertools import product

import numpy as np
import pandas as pd
import torch

from tla.blackbox import hop_skip_jump, square
from tla.core.attacks import run_attack
from tla.core.chance import stream
from tla.files import write_metrics, write_rows, write_table
from tla.referee import check
from tla.study import Columns, Study


def transferred(study: Study, source: str, seeds: list[int]) -> Columns:
    """Class that every model of the second seed gives to images made on the source's network of the first seed."""
    settings, eps = study.params.blackbox, study.params.attack.eps
    test, network = study.test(seeds[1], settings.images), study.network(source, seeds[0])
    x_adv = run_attack(lambda x: network(x)[0], test.x, test.y, settings.transfer, eps=eps, convention="last",
                       generator=stream(seeds[0], "queries", study.device)).x_adv
    linf = torch.from_numpy(check(test.x, x_adv, eps)).float()
    with torch.no_grad():
        found = {f"pred_{target}": study.network(target, seeds[1])(x_adv)[0].argmax(1) for target in study.models}
    return {"idx": test.idx, "label": test.y, "linf": linf} | found


def queried(study: Study, model: str, seed: int) -> Columns:
    """Correctness under Square on the first images, and the distance HopSkipJump needs on the first few."""
    settings, eps = study.params.blackbox, study.params.attack.eps
    network, test = study.network(model, seed), study.test(seed, settings.images)
    x_adv = square(network, test, eps=eps, queries=settings.queries, batch=study.params.evaluate.batch, seed=seed)
    check(test.x, x_adv, eps)
    few = test.first(settings.hop_skip.images)
    nearest, asked = hop_skip_jump(network, few, settings.hop_skip, seed)
    with torch.no_grad():
        robust, unbroken, right = (network(x)[0].argmax(1) == y for x, y in (
            (x_adv, test.y), (nearest, few.y), (few.x, few.y)))
    distance = torch.where(unbroken, torch.inf, (nearest - few.x).abs().flatten(1).amax(1))
    distance = torch.where(right, distance, 0)      # nothing has to be changed
    distance = torch.cat([distance, distance.new_full((len(test.x) - len(few.x),), torch.nan)])
    return {"idx": test.idx, "label": test.y, "square_robust": robust.byte(), "hop_skip_distance": distance,
            "hop_skip_queries": torch.full_like(distance, asked)}


def main(argv: list[str] | None = None) -> None:
    study = Study(__doc__, argv)
    settings, eps, seeds = study.params.blackbox, study.params.attack.eps, study.params.seeds[:2]

    weights = [study.digest(*job) for job in product(study.models, seeds)]
    transfer = study.each("transfer", lambda source, _: transferred(study, source, seeds), seeds[:1],
                          settings, eps, weights).rename(columns={"model": "source"})
    queries = study.each("queries", lambda model, seed: queried(study, model, seed), seeds[1:], settings, eps)
    matrix = pd.DataFrame({target: (transfer[f"pred_{target}"] == transfer.label).groupby(transfer.source).mean()
                           for target in study.models}).loc[study.models]
    write_rows(study.rows / "transfer.csv.gz", transfer)
    write_rows(study.rows / "queries.csv.gz", queries)
    write_table(study.reports / "tables" / "transfer.csv", matrix.rename_axis("source").reset_index())
    write_metrics(study.reports / "metrics" / "blackbox.json", {
        name: value for model in study.models for name, value in accuracies(queries, matrix, model, eps).items()})


def accuracies(queries: pd.DataFrame, matrix: pd.DataFrame, model: str, eps: float) -> dict[str, float]:
    """A model's accuracy under the strongest other source, its own method with another seed, Square and HopSkipJump.

    And how many queries an image HopSkipJump took.
    """
    part, others = queries[queries.model == model], matrix[model].drop(model)
    few = part.hop_skip_distance.dropna()
    return {f"{model}_transfer": others.min(), f"{model}_grey_box": matrix[model][model],
            f"{model}_square": part.square_robust.mean(), f"{model}_hop_skip": float(np.mean(few > eps)),
            f"{model}_hop_skip_queries": float(part.hop_skip_queries.mean())}


if __name__ == "__main__":
    main()
