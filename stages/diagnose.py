"""Signs of gradient masking: a table with a flag for each model, and the loss around a few test images."""

import pandas as pd

from tla.core.chance import stream
from tla.files import read_rows, write_metrics, write_rows, write_table
from tla.masking import curve, surface, zero_gradient
from tla.rows import correct_columns
from tla.signs import SIGNS, signs
from tla.study import Columns, Study


def measured(study: Study, model: str, seed: int, eps: list[float]) -> Columns:
    """Correctness at each eps and the share of pixels without gradient, of the first test images."""
    settings, network = study.params.masking, study.network(model, seed)
    split = study.test(seed, settings.images)
    correct = curve(network, split, settings, eps)
    return {"idx": split.idx, "zero_gradient": zero_gradient(network, split)} | {
        f"eps_{size:g}": row.byte() for size, row in zip(eps, correct, strict=True)}


def line(study: Study, model: str, seed: int, rows: pd.DataFrame, others: dict[str, pd.DataFrame]) -> dict:
    """One model's numbers, and True under flag_<sign> where one exceeds the tolerance."""
    white = read_rows(study.rows / f"{model}.csv.gz").query("seed == @seed")
    transfer, square, auto = (others[name].set_index("idx") for name in ("transfer", "queries", "autoattack"))
    reached = (transfer[f"pred_{model}"] == transfer.label).groupby(level=0)
    found = signs(
        correct_columns(white).set_index(white.idx), f"pgd_{study.params.evaluate.attacks['pgd'].steps[-1]}_worst",
        list(rows.filter(like="eps_").mean()), float((rows.zero_gradient == 1).mean()),
        {"transfer": reached.min().astype(float), "square": square.query("model == @model").square_robust,
         "autoattack": auto.query("model == @model and seed == @seed").square_robust})
    # Rounded: a difference of shares that equals the tolerance must not exceed it by an error of floating point.
    # Turned round: a comparison without images is flagged too.
    tolerance = study.params.masking.tolerance
    flags = {f"flag_{name}": not round(value, 9) <= tolerance for name, value in found.items()}
    return {"model": model, **found, "zero_pixels": rows.zero_gradient.mean(), **flags}


def main(argv: list[str] | None = None) -> None:
    study = Study(__doc__, argv)
    settings, limit, seed = study.params.masking, study.params.attack.eps, study.params.seeds[1]
    eps = sorted({*(factor * limit for factor in settings.eps_factors), 1.0})

    rows = study.each("diagnose", lambda *job: measured(study, *job, eps), [seed], settings, eps)
    others = {name: read_rows(study.rows / f"{name}.csv.gz") for name in ("transfer", "queries", "autoattack")}
    table = pd.DataFrame([line(study, model, seed, part, others) for model, part in rows.groupby("model", sort=False)])
    few = study.test(seed, settings.surfaces)
    planes = pd.concat([
        surface(study.network(model, seed), few.x[i: i + 1], few.y[i: i + 1], limit, settings.points,
                stream(seed, "queries", study.device)).assign(model=model, idx=int(few.idx[i]))
        for model in ("um", "at", "alp", study.models[-1]) for i in range(settings.surfaces)])

    write_rows(study.rows / "diagnose.csv.gz", rows)
    write_table(study.reports / "tables" / "masking.csv", table)
    write_table(study.reports / "plots" / "loss-surface.csv", planes)
    write_metrics(study.reports / "metrics" / "masking.json", {
        f"{line.model}_flags": sum(getattr(line, f"flag_{name}") for name in SIGNS) for line in table.itertuples()})


if __name__ == "__main__":
    main()
