"""Paired differences between models, from the rows, with intervals over test images and seeds jointly."""

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pandas as pd

from tla.detection import SCORES, cases
from tla.files import read_rows, write_table
from tla.params import Params, load_params
from tla.rows import correct_columns
from tla.statistics import auc_difference, mcnemar, paired_difference, significant

AUC_COLUMNS = ["model", "baseline", "score", "eps_factor", "difference", "low", "high", "p", "seeds_won", "images",
               "seeds"]


def pairs(tla: str, pools: list[str]) -> list[tuple[str, str]]:
    """Which model is set against which: TLA against baselines, controls and other pools, and these among themselves."""
    others = dict.fromkeys(["at", "alp", "trades", "at-norm", "tla-sa", *pools])
    *_, second, largest = pools
    swept = [(pool, "tla-b1") for pool in pools if pool != "tla-b1" and tla not in (pool, "tla-b1")]
    return list(dict.fromkeys([
        *((tla, other) for other in others if other != tla), *swept, (largest, second),
        ("alp", "at"), ("trades", "at"), ("at-norm", "at"), ("at", "um"), ("kurakin", "um")]))


def outcomes(params: Params, name: str) -> pd.DataFrame:
    """seed, idx and every outcome of a model per test image: the suite's, AutoAttack's, and k-NN where it was run."""
    folder = Path("data", params.dataset, "rows")
    rows = read_rows(folder / f"{name}.csv.gz")
    found = pd.concat([rows[["seed", "idx"]], correct_columns(rows)], axis=1)
    auto = read_rows(folder / "autoattack.csv.gz").rename(columns={"square_robust": "autoattack"})
    auto = auto.loc[auto.model == name, ["seed", "idx", "autoattack"]]
    found = found.merge(auto, how="left", on=["seed", "idx"])
    if name in ("at", "alp", f"tla-b{params.mining.batch}"):
        queries = read_rows(folder / f"neighbors-{name}.csv.gz")
        queries["knn"] = (queries.adv_knn == queries.label).astype(float)
        found = found.merge(queries[["seed", "idx", "knn"]], how="left", on=["seed", "idx"])
    return found


def accuracy_lines(params: Params, chosen: list[tuple[str, str]]) -> Iterator[dict]:
    """One line per pair and outcome that both have; mcnemar_p is that of the seed where it is largest."""
    found = {name: outcomes(params, name) for name in sorted({name for pair in chosen for name in pair})}
    for a, b in chosen:
        assert found[a][["seed", "idx"]].equals(found[b][["seed", "idx"]]), "rows of two models are not paired"
        for column in [c for c in found[a] if c in found[b] and c not in ("seed", "idx")]:
            both = found[a][["seed", "idx"]].assign(d=found[a][column] - found[b][column]).dropna()
            differences = [part.d.to_numpy() for _, part in both.groupby("seed")]
            yield {"model": a, "baseline": b, "outcome": column,
                   **paired_difference(differences, params.data.folds is None),
                   "mcnemar_p": max(mcnemar(d) for d in differences),
                   "images": both.idx.nunique(), "seeds": len(differences)}


def auc_lines(params: Params, tla: str) -> Iterator[dict]:
    """One line per pair, score and eps: does the score tell wrong from right among adversarial images?

    The undefended model is also set against chance. Where a model gets too few images right, or too few
    wrong, the line is empty: undefined, not absent.
    """
    rows = {name: read_rows(Path("data", params.dataset, "rows", f"detect-{name}.csv.gz"))
            for name in ("um", "at", "alp", tla)}

    def seeds(name: str, factor: float, score: str) -> list[tuple]:
        part = rows[name][rows[name].eps_factor == factor]
        return [cases(seed, "misclassified", score) for _, seed in part.groupby("seed")]

    for model, baseline in ((tla, "um"), (tla, "at"), (tla, "alp"), ("um", "chance")):
        for factor, score in product(params.detect.eps_factors, SCORES):
            a = seeds(model, factor, score)
            b = [None] * len(a) if baseline == "chance" else seeds(baseline, factor, score)
            fewest = min(kind.sum() for wrong, _ in filter(None, a + b) for kind in (wrong, ~wrong))
            yield {"model": model, "baseline": baseline, "score": score, "eps_factor": factor, "seeds": len(a),
                   "images": rows[model].idx.nunique(),
                   **({} if fewest < params.compare.least else auc_difference(
                       a, b, params.data.folds is None, params.compare.resamples, params.compare.seed))}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="params.yaml of the data set")
    params = load_params(parser.parse_args(argv).config)
    tla, tables = f"tla-b{params.mining.batch}", Path("reports", params.dataset, "tables")

    chosen = pairs(tla, [f"tla-b{batch}" for batch in sorted(params.ablation.batches)])
    write_table(tables / "differences.csv", significant(pd.DataFrame(accuracy_lines(params, chosen))))
    write_table(tables / "auc-differences.csv", significant(pd.DataFrame(
        auc_lines(params, tla), columns=AUC_COLUMNS).astype({"seeds_won": "Int64"})))


if __name__ == "__main__":
    main()
