"""What the paper's poster shows, from reports/published.csv, in the terms of our tables."""

from math import nan
from pathlib import Path

import pandas as pd

from tla.files import read_csv
from tla.outcomes import Outcome
from tla.params import Params
from tla.report.labels import DATA
from tla.report.tables import READING, counted_outcome

FORMS = {"C&W": ("cw-50", "cw"), "MIM": ("mim-average", "mim")}     # the paper's own, the usual
PGD = {"PGD": ("pgd", "pgd-restarts")}


def short_run(params: Params) -> str:
    """Outcome of the short PGD run: of the 20 steps of the paper's sweep, or of our fewest."""
    steps = params.evaluate.attacks["pgd"].steps
    return f"pgd_{20 if 20 in steps else steps[0]}_last"


def long_run(params: Params) -> str:
    """Outcome of the PGD run of most steps."""
    return counted_outcome(params, "pgd")


def forms(params: Params) -> list[str]:
    """Our outcomes of C&W and MIM: in the paper's form, as the claims, where the study has that."""
    return [_form(attack, params) for attack in FORMS]


def _form(attack: str, params: Params) -> str:
    name = next(name for name in FORMS[attack] if name in params.evaluate.attacks)
    return counted_outcome(params, name)


def our_outcomes(attack: str, params: Params) -> list[str]:
    """Our outcomes for an attack of the poster; its long PGD run can be read in two ways."""
    if attack in FORMS:
        return [_form(attack, params)]
    return [short_run(params)] if attack == "PGD" else [long_run(params), READING]


def of_data(params: Params) -> pd.DataFrame:
    """The lines of the poster on a study's data set; none on others than the paper's."""
    table = read_csv(Path("reports", "published.csv"), "run git checkout")
    return table[table.dataset == DATA.get(params.data.source)]


def published(params: Params, figure: str) -> pd.DataFrame:
    """Values (fractions) of one figure of the poster for this data set.

    Columns model, pool, outcome, value, a line for each reading. Other data sets than the paper's
    have no line.
    """
    table = of_data(params)
    table = table[table.figure == figure]
    outcomes = [our_outcomes(attack, params) for attack in table.attack]
    return table.assign(outcome=outcomes, value=table.value / 100).explode("outcome")


def published_gain(params: Params, outcome: str, baseline: str) -> float:
    """TLA's accuracy minus a baseline's under C&W, MIM or PGD, the long run; NaN if not published.

    outcome: ours of that attack. The gain under PGD stands in the poster's text, the others are
    read off its bars.
    """
    table, name = of_data(params), baseline.upper()
    ours = Outcome.parse(outcome).attack
    attack = next((attack for attack, names in (FORMS | PGD).items() if ours in names), "")
    if attack in PGD:
        said = (table.model == f"TLA - {name}") & table.attack.str.startswith("PGD-")
        return table.value[said].item() / 100 if said.any() else nan
    bars = table[(table.figure == "bars") & (table.attack == attack)].set_index("model").value
    return (bars.get("TLA", nan) - bars.get(name, nan)) / 100


def poster_auc(params: Params) -> str:
    """A line with the AUCs that the poster prints for this data set; empty for other data sets."""
    lines = published(params, "ROC").drop_duplicates("model")
    if lines.empty:
        return ""
    values = [f"{line.model} {line.value:.4f}" for line in lines.itertuples()]
    return f"AUC on the poster, score and eps not stated: {', '.join(values)}"
