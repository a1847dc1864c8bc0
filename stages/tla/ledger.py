"""Claims and verdicts. Imports no torch."""

import math
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from tla.params import CHECKED, Real, UserError, one_line, read_yaml
from tla.statistics import holm

Data = Literal["mnist", "cifar10", "tiny-imagenet"]


@dataclass(frozen=True, config=CHECKED)
class Claim:
    """One statement of the paper: by how many points `model` is ahead of `baseline`, and how we measure it.

    `equal_within` makes it a claim of hardly any difference: of no more than so many points.
    """

    id: str
    data: Data
    says: str
    kind: Literal["accuracy", "auc", "unmeasured"]
    model: str
    baseline: str
    published: Real | None
    source: str
    outcomes: list[str]
    equal_within: Real | None = None

    @property
    def direction(self) -> int:
        """1 where the model is claimed to be ahead, -1 where behind; a claim without a number is one of being ahead."""
        return -1 if (self.published or 0) < 0 else 1


@dataclass(frozen=True, config=CHECKED)
class Summary:
    """The claims, our studies of each data set, and studies of other data that are shown beside."""

    studies: dict[Data, list[str]]
    beside: list[str]
    claims: list[Claim]


def load_summary(path: str | Path) -> Summary:
    """Read and check a file of claims. Raises UserError as `load_params` does."""
    try:
        return TypeAdapter(Summary).validate_python(read_yaml(path))
    except ValidationError as error:
        raise UserError(one_line(path, error)) from None


def studied(summary: Summary) -> list[str]:
    """Every study that the claims are read from, once."""
    return list(dict.fromkeys([*sum(summary.studies.values(), []), *summary.beside]))


def path_of(study: str) -> str:
    """The params.yaml of a study, seen from the top of the repository."""
    return "params.yaml" if study == "digits" else f"experiments/{study}/params.yaml"


def verdict(claim: Claim, low: float, high: float) -> str:
    """confirmed where the interval, in points, is on the claimed side of zero, contradicted where on the other.

    Else not resolved. A claim of hardly any difference is confirmed inside its margin and contradicted
    outside. Without an interval the difference is undefined.
    """
    if math.isnan(low):
        return "undefined"
    if (margin := claim.equal_within) is not None:
        if -margin <= low and high <= margin:
            return "confirmed"
        return "contradicted" if low > margin or high < -margin else "not resolved"
    if low > 0 or high < 0:
        return "confirmed" if (low > 0) == (claim.direction > 0) else "contradicted"
    return "not resolved"


def with_holm(table: pd.DataFrame) -> pd.DataFrame:
    """The ledger with Holm's p over the comparisons of each study, and the difference that would have been resolved.

    A comparison that speaks to several claims counts once.
    """
    keys = ["study", "model", "baseline", "outcome"]
    once = table[table.p.notna()].drop_duplicates(keys)
    adjusted = once.assign(p_holm=once.groupby("study").p.transform(lambda p: holm(p.tolist())))
    return table.merge(adjusted[[*keys, "p_holm"]], how="left", on=keys).assign(resolvable=(table.high - table.low) / 2)
