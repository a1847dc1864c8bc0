"""Paired differences between models, from the rows, with intervals over test images and seeds jointly."""

import argparse
from pathlib import Path

import pandas as pd

from tla.files import read_rows, write_table
from tla.params import load_params
from tla.rows import correct_columns
from tla.statistics import paired_difference


def pairs(tla: str, pools: list[str]) -> list[tuple[str, str]]:
    """Which model is set against which: TLA against baselines, controls and other pools, and these among themselves."""
    others = dict.fromkeys(["at", "alp", "trades", "at-norm", "tla-sa", *pools])
    return [(tla, other) for other in others if other != tla] + [
        ("alp", "at"), ("trades", "at"), ("at-norm", "at"), ("at", "um"), ("kurakin", "um")]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="params.yaml of the data set")
    params = load_params(parser.parse_args(argv).config)

    chosen = pairs(f"tla-b{params.mining.batch}", [f"tla-b{batch}" for batch in sorted(params.ablation.batches)])
    rows = {name: read_rows(Path("data", params.dataset, "rows", f"{name}.csv.gz"))
            for name in sorted({name for pair in chosen for name in pair})}
    correct = {name: correct_columns(table) for name, table in rows.items()}
    lines = []
    for a, b in chosen:
        assert rows[a][["seed", "idx"]].equals(rows[b][["seed", "idx"]]), "rows of two models are not paired"
        for column in correct[a]:
            both = rows[a][["seed", "idx"]].assign(a=correct[a][column], b=correct[b][column]).dropna()
            outcomes = ([part[name].to_numpy() for _, part in both.groupby("seed")] for name in ("a", "b"))
            result = paired_difference(*outcomes, params.compare.resamples, params.compare.seed)
            lines.append({"model": a, "baseline": b, "outcome": column, **result,
                          "images": both.idx.nunique(), "seeds": both.seed.nunique()})
    write_table(Path("reports", params.dataset, "tables", "differences.csv"), pd.DataFrame(lines))


if __name__ == "__main__":
    main()
