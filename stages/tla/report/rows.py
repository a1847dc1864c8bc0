"""Rows of a study as reports read them: of its seeds, with outcomes that say right or wrong."""

from pathlib import Path

import pandas as pd

from tla.files import AGAIN, read_rows
from tla.outcomes import Outcome, outcome_columns
from tla.params import Params, UserError
from tla.report.curves import MEAN


def rows_of(path: Path, params: Params) -> pd.DataFrame:
    """The rows of a file. Raises UserError where they are of other seeds, or no outcomes."""
    rows = read_rows(path)
    if "seed" in rows and (others := sorted(set(rows.seed) - set(params.seeds))):
        raise UserError(f"{path}: seed: {others[0]} is none of the study's; {AGAIN}")
    for outcome in outcome_columns(rows):
        shares = "draws" in rows or Outcome.parse(outcome).budget == MEAN
        if not _right_or_wrong(rows[outcome].dropna(), shares):
            raise UserError(f"{path}: {outcome}: holds more than 0 and 1, wrong and right; {AGAIN}")
    return rows


def suite_of(path: Path, params: Params, model: str) -> pd.DataFrame:
    """The rows of a model's suite. Raises UserError also where an outcome is missing, or a seed."""
    rows, seeds = rows_of(path, params), params.seeds_of(model)
    needed = ["clean"]
    for attack in params.evaluate.attacks:
        needed += params.evaluate.outcomes(attack)
    if absent := [name for name in needed if name not in rows]:
        raise UserError(f"{path}: {absent[0]}: is missing; {AGAIN}")
    if absent := sorted(set(seeds) - set(rows.seed)):
        raise UserError(f"{path}: seed: {absent[0]} is missing; {AGAIN}")
    if others := sorted(set(rows.seed) - set(seeds)):
        raise UserError(f"{path}: seed: {others[0]} is none of {model}'s; {AGAIN}")
    return rows


def _right_or_wrong(values: pd.Series, shares: bool) -> bool:
    """Whether all are 0 or 1; of shares, between."""
    numbers = pd.to_numeric(values, errors="coerce")
    return bool((numbers.between(0, 1) if shares else numbers.isin([0, 1])).all())
