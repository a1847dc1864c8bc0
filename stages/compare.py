"""Every table of one study, from its rows: accuracies, differences between models, masking, AUC.

And a few of the images that one model survives and another does not.
"""

import tla.guard  # noqa: F401

from pathlib import Path

import pandas as pd

from tla.command import study_arguments
from tla.files import replacing, write_table
from tla.outcomes import outcome_columns
from tla.params import Params
from tla.report import detection, scale, tables
from tla.report.curves import distances_line, with_norms
from tla.report.gain import gain_table
from tla.report.intact import seal
from tla.report.pairs import compared, compared_auc, shared
from tla.report.rows import rows_of, suite_of
from tla.report.signs import masking_line
from tla.report.survivors import survivors_table, write_examples
from tla.report.tables import Rows, by_model

EXACT = ("differences", "auc-differences", "scale", "scale-trend", "gain")


def read(params: Params, folder: str, name: str) -> Rows:
    """The rows `name` of each model: in `rows` of all, in `embedding` of those looked into."""
    place = Path("data", params.dataset, folder)
    found = {}
    for model in params.models if folder == "rows" else params.represent.models:
        path = place / model / f"{name}.csv.gz"
        found[model] = suite_of(path, params, model) if name == "suite" else rows_of(path, params)
    return found


def accuracy_tables(params: Params, suite: Rows, norms: Rows, neighbors: Rows,
                    mismatch: Rows) -> dict[str, pd.DataFrame]:
    """Tables from the suite's rows, those in other norms, and retrieval where it was looked for."""
    attacked = {m: with_norms(rows, norms[m]) for m, rows in suite.items()}
    outcomes = {}
    for model, rows in attacked.items():
        found = rows[["seed", "idx", *outcome_columns(rows)]]
        found = tables.with_retrieved(found, neighbors.get(model), "knn", "adv_knn")
        outcomes[model] = tables.with_retrieved(found, mismatch.get(model), "mismatch_last",
                                                "moved_knn")
    return {"accuracy": by_model(attacked, tables.accuracy_lines),
            "seeds": by_model(suite, tables.seed_lines),
            "distances": by_model(norms, distances_line),
            "autoattack": by_model(suite, tables.autoattack_line),
            "survivors": survivors_table(suite, params),
            "draws": by_model(suite, tables.draws_lines).reindex(columns=tables.DRAW_COLUMNS),
            "differences": tables.differences(outcomes, compared(params), shared(params))}


def beyond_tables(params: Params, suite: Rows) -> dict[str, pd.DataFrame]:
    """Tables of transfer, queries, signs of masking, textbook attacks and the cost of training."""
    eps = params.attack.eps
    transfer = rows_of(Path("data", params.dataset, "rows", "transfer.csv.gz"), params)
    masking, leaking = read(params, "rows", "masking"), read(params, "rows", "leaking")
    matrix = tables.transfer_matrix(transfer, params.models)
    pgd = params.evaluate.outcomes("pgd")[-1]
    queries, signs = [], []
    for model, rows in suite.items():
        queries.append(tables.queries_line(model, matrix, rows, masking[model], eps))
        others = pd.concat({params.seeds[1]: tables.withstood(transfer, model)}, names=["seed"])
        signs.append({"model": model} | masking_line(
            rows.set_index(["seed", "idx"]), masking[model], others, pgd, params.masking.tolerance))
    return {"transfer": matrix, "queries": pd.DataFrame(queries), "masking": pd.DataFrame(signs),
            "textbook": by_model(read(params, "rows", "textbook"), tables.textbook_line),
            "label-leaking": by_model(leaking, tables.leaking_lines, eps),
            "cost": tables.cost_table(read(params, "rows", "cost"))}


def embedding_tables(params: Params, neighbors: Rows,
                     mismatch: Rows) -> dict[str, pd.DataFrame]:
    """Tables of detection, retrieval and images from elsewhere."""
    least = params.compare.least
    detect, aware = (read(params, "embedding", name) for name in ("detect", "aware"))
    pairs = compared_auc(params)
    return {"auc": by_model(detect, detection.auc_lines, least),
            "roc": by_model(detect, detection.roc_lines, least),
            "aware": by_model(aware, detection.aware_lines, params),
            "aware-roc": by_model(aware, detection.roc_lines, least),
            "auc-differences": detection.auc_differences(detect, aware, pairs, params),
            "retrieval": by_model(neighbors, tables.retrieval_line),
            "mismatch": by_model(mismatch, tables.mismatch_line),
            "ood": by_model(read(params, "embedding", "ood"), tables.ood_lines, params.ood.sources)}


def variant_tables(params: Params, folder: Path) -> dict[str, pd.DataFrame]:
    """Tables of the study's variants; none where it has none."""
    variants, rows, costs = params.variants, {}, {}
    for name in variants.trained:
        suite = rows_of(folder / name / "suite.csv.gz", params)
        rows[name] = {model: part.reset_index(drop=True) for model, part in suite.groupby("model")}
        costs[name] = rows_of(folder / name / "cost.csv.gz", params)
    found = {"variants": scale.accuracy_table(rows, costs)} if rows else {}
    if variants.scale:
        found |= {"scale": scale.scale_table(params, rows, costs),
                  "scale-trend": scale.trend_table(params, rows, costs)}
    if variants.gain:
        found["gain"] = gain_table(params, rows)
    return found


def main(argv: list[str] | None = None) -> None:
    params = study_arguments(__doc__, argv)
    data, reports = Path("data", params.dataset), Path("reports", params.dataset)

    suite = read(params, "rows", "suite")
    neighbors = read(params, "embedding", "neighbors")
    mismatch = read(params, "embedding", "mismatch")
    norms = read(params, "rows", "norms")
    made = accuracy_tables(params, suite, norms, neighbors, mismatch)
    made |= beyond_tables(params, suite)
    made |= embedding_tables(params, neighbors, mismatch)
    made |= variant_tables(params, data / "rows" / "variants")
    with replacing(reports) as out:
        for name, table in made.items():
            # Verdicts and corrected p values are computed from differences: they are not rounded.
            write_table(out / "tables" / f"{name}.csv", table, exact=name in EXACT)
        seal(out / "tables")
        write_examples(out / "examples", suite, data / "rows", params)


if __name__ == "__main__":
    main()
