"""What a test image came out as: one type that prints and parses its own name, the same everywhere.

`pgd_400_last` is attack `pgd`, read after 400 steps, under the convention `last`. Attacks are spelt
with dashes, so the parts cannot run into each other.
"""

import math
import re
from dataclasses import dataclass

import pandas as pd

CONVENTIONS = ("last", "worst")
CLEAN = "clean"             # correct on the image itself
WHITE_BOX = "white-box"     # correct under every gradient attack of the suite
ROBUST = "robust"           # correct under every attack of the suite: the headline
KNN = "knn"                 # an adversarial query's neighbours are of its class
PLAIN = (CLEAN, WHITE_BOX, ROBUST, KNN)
FORM = re.compile(r"(?P<attack>[a-z0-9-]+)(_(?P<budget>[a-z0-9.-]+))?_(?P<convention>last|worst)")


@dataclass(frozen=True)
class Outcome:
    """`budget`: the steps, AutoAttack's last attack or the radius, where one is read at several.

    convention `last`: correct after the last step of every restart (the paper's); `worst`: at every
    step so far.
    """

    attack: str
    budget: str | None = None
    convention: str | None = None

    def __str__(self) -> str:
        parts = (self.attack, self.budget, self.convention)
        return "_".join(part for part in parts if part is not None)

    @classmethod
    def parse(cls, name: str) -> "Outcome":
        """The outcome that prints as `name`. Raises ValueError where none does."""
        if name in PLAIN:
            return cls(name)
        found = FORM.fullmatch(name)
        if found and found["attack"] not in PLAIN:
            return cls(found["attack"], found["budget"], found["convention"])
        raise ValueError(f"{name!r} names no outcome; one is e.g. clean, cw_last or pgd_400_worst")


def is_outcome(name: str) -> bool:
    """Whether a column's name is that of an outcome."""
    try:
        Outcome.parse(name)
    except ValueError:
        return False
    return True


def outcome_columns(rows: pd.DataFrame) -> list[str]:
    """The columns of a table that hold outcomes."""
    return [column for column in rows if is_outcome(column)]


def draw_std(shares: pd.Series, draws: int) -> float:
    """Standard deviation over draws of the accuracy that one draw an image gives.

    shares: of an outcome of a stochastic network, the share of so many draws that are right, one a
    row. Every row was drawn for itself, so variances add up.
    """
    variance = shares * (1 - shares) * draws / (draws - 1)
    return math.sqrt(variance.sum()) / len(shares)
