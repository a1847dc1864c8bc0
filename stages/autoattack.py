"""AutoAttack on every model: correctness after each of its attacks, one row an image."""

import pandas as pd

from tla.autoattack import ATTACKS, CHECKS, autoattack_columns
from tla.files import write_metrics, write_rows, write_table
from tla.rows import key, wilson
from tla.study import Study


def summary(model: str, rows: pd.DataFrame) -> dict:
    """One model's line: accuracy after each attack, the interval of the last, on how many seeds a check complained."""
    after = {name: rows[f"{key(name)}_robust"].mean() for name in ATTACKS}
    images = rows.idx.nunique()
    low, high = wilson(after[ATTACKS[-1]], images)
    per_seed = rows.groupby("seed")
    return {"model": model, "clean": (rows.clean_pred == rows.label).mean(), **after, "low": low, "high": high,
            "std": per_seed[f"{key(ATTACKS[-1])}_robust"].mean().std(), "images": images, "seeds": rows.seed.nunique(),
            **{f"check_{name}": int(per_seed[f"check_{name}"].max().sum()) for name in CHECKS}}


def main(argv: list[str] | None = None) -> None:
    study = Study(__doc__, argv)
    settings, eps = study.params.autoattack, study.params.attack.eps

    def attack(model, seed):
        return autoattack_columns(study.network(model, seed), study.test(seed, settings.images),
                                  eps=eps, batch=settings.batch, seed=seed)

    rows = study.each("autoattack", attack, settings.seeds, settings, eps)
    table = pd.DataFrame([summary(model, part) for model, part in rows.groupby("model", sort=False)])

    write_rows(study.rows / "autoattack.csv.gz", rows)
    write_table(study.reports / "tables" / "autoattack.csv", table)
    write_metrics(study.reports / "metrics" / "autoattack.json",
                  {f"{line.model}_accuracy": line.square for line in table.itertuples()}
                  | {"images": int(table.images.max()), "seeds": int(table.seeds.max())})


if __name__ == "__main__":
    main()
