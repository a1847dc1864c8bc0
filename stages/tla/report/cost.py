"""What training costs against a baseline: counted passes, beside the benchmark's measured time."""

from math import nan
from pathlib import Path

import pandas as pd

from tla.files import read_csv
from tla.params import Params
from tla.report.intact import read_table, table_path

COUNTED = "images through the network, counted"
TIMED = "time of a training step, measured"
BENCHMARK = Path("reports", "benchmarks", "training.csv")
NETWORKS = {"digits": "digits", "mnist-fast": "mnist"}      # of the benchmark, by study


def cost_readings(model: str, baseline: str, params: Params) -> pd.DataFrame:
    """By what share a training image of `model` costs more than one of `baseline`.

    Columns as of the tables of differences; without p, for neither is a sample. Measured time comes
    first, where the benchmark was run with this study, with the range of its rounds as low and
    high; then the count, which has none. No line where the study has not counted both models.
    """
    counted = table_path(params, "cost").exists()
    table = read_table(params, "cost").set_index("model") if counted else pd.DataFrame()
    if not {model, baseline} <= set(table.index):
        return pd.DataFrame(columns=["outcome"])
    both = table.forward + table.backward
    more = both[model] / both[baseline] - 1
    lines = [*_timed(model, baseline, params),
             {"outcome": COUNTED, "difference": more, "low": more, "high": more}]
    return pd.DataFrame(lines).assign(p=nan, seeds_won=nan, images=nan, seeds=nan)


def _timed(model: str, baseline: str, params: Params) -> list[dict]:
    """One line where the benchmark timed the model, else none; its times are shares of AT's."""
    if baseline != "at" or not BENCHMARK.exists():
        return []
    table = read_csv(BENCHMARK)
    table = table[(table.network == NETWORKS.get(params.dataset)) & (table.model == model)
                  & (table.precision == params.train.precision)]
    return [{"outcome": TIMED, "difference": line.of_at - 1, "low": line.low - 1,
             "high": line.high - 1} for line in table.itertuples()]
