"""The claims of the paper, the reading that decides each, and the studies they are read from."""

import re
from collections import Counter
from dataclasses import field
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from tla.outcomes import Outcome
from tla.params import (
    CHECKED,
    Integer,
    Name,
    OpenFraction,
    Params,
    Positive,
    Real,
    Text,
    UserError,
    checked,
    different,
    read_yaml,
)
from tla.report.cost import COUNTED, TIMED
from tla.report.curves import is_of_norm
from tla.report.detection import ASKED, SCORES
from tla.report.labels import ATTACKS
from tla.train.methods import METHODS, load_study

Data = Literal["mnist", "cifar10", "tiny-imagenet", "any"]
Kind = Literal["accuracy", "auc", "cost"]
Studies = Annotated[list[Name], AfterValidator(different)]
AREAS = [score + suffix for suffix, score in product(ASKED, SCORES)]
AREA = re.compile(rf"({'|'.join(AREAS)}), eps x \d+(\.\d+)?")
EXAMPLES = {"accuracy": "pgd-restarts_last", "auc": "mixture, eps x 1.5", "cost": TIMED}


@dataclass(frozen=True, config=CHECKED)
class Claim:
    """One statement of the paper: by how many points `model` is ahead of `baseline`.

    `primary` is the reading that decides, as the ledger calls it; `secondary` are outcomes, or
    scores at every eps, that explore. `equal_within` makes it a claim of hardly any difference: of
    no more than so many points. A claim of cost counts percent of the baseline's. `same_as` is the
    claim whose comparison this is too; `not_measured` says why a study of its data lacks the
    primary reading.
    """

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,12}$")]
    data: Data
    says: Text
    kind: Kind
    model: str
    baseline: str
    published: Real | None
    source: Text
    primary: str
    secondary: list[str]
    equal_within: Positive | None = None
    same_as: str | None = None
    not_measured: dict[Name, Text] = field(default_factory=dict)

    def __post_init__(self):
        for name in (self.model, self.baseline):
            if not is_model(name):
                raise ValueError(f"{name!r} in {self.id} is no model; there are "
                                 f"{', '.join(METHODS)}, tla-b<pool> and chance")
        if not is_primary(self.primary, self.kind):
            raise ValueError(f"primary: {self.primary!r} in {self.id} is no reading of "
                             f"{self.kind}; one is {EXAMPLES[self.kind]!r}")
        for name in self.secondary:
            if not is_secondary(name, self.kind):
                raise ValueError(f"secondary: {name!r} in {self.id} is no reading of {self.kind}")
        if twice := repeated([self.primary, *self.secondary]):
            raise ValueError(f"the reading {twice[0]!r} of {self.id} stands twice")
        if self.kind == "cost" and self.equal_within is None:
            raise ValueError(f"equal_within: is missing in {self.id}, a claim of cost")

    @property
    def direction(self) -> int:
        """1 where the model is claimed to be ahead, as without a number; -1 where behind."""
        return -1 if (self.published or 0) < 0 else 1


def is_model(name: str) -> bool:
    """Whether a claim may be about it: a method, a pool of TLA's, or chance."""
    return name in METHODS or name == "chance" or bool(re.fullmatch(r"tla-b[1-9]\d*", name))


def is_primary(name: str, kind: Kind) -> bool:
    """Whether lines of the ledger that are of this kind may have this outcome."""
    if kind == "cost":
        return name in (TIMED, COUNTED)
    if kind == "auc":
        return bool(AREA.fullmatch(name))
    try:
        outcome = Outcome.parse(name)
    except ValueError:
        return False
    return outcome.attack in ATTACKS or is_of_norm(outcome)


def is_secondary(name: str, kind: Kind) -> bool:
    """Whether it names further lines of a claim: those of a score stand for every eps."""
    return name in AREAS if kind == "auc" else is_primary(name, kind)


def repeated(names: list[str]) -> list[str]:
    """The names that stand more than once."""
    return [name for name, times in Counter(names).items() if times > 1]


@dataclass(frozen=True, config=CHECKED)
class Summary:
    """The claims, our studies of each data set, and studies of other data that stand beside.

    A corrected p below `level` settles a claim. `looks`: how often the comparisons of a study were
    tested where that is more than once, as after some of its seeds; p counts so often.
    """

    config: Literal["experiments/summary/params.yaml"]
    level: OpenFraction
    looks: dict[Name, Annotated[Integer, Field(ge=2)]]
    studies: dict[Data, Studies]
    beside: Studies
    claims: Annotated[list[Claim], Field(min_length=1)]

    def __post_init__(self):
        if twice := repeated([claim.id for claim in self.claims]):
            raise ValueError(f"claims: the id {twice[0]} stands twice")
        if unknown := sorted(self.looks.keys() - set(sum(self.studies.values(), []))):
            raise ValueError(f"looks: {unknown[0]!r} is none of the studies")
        for claim in self.claims:
            own = self.studies.get(claim.data, [])
            if unknown := sorted(claim.not_measured.keys() - set(own)):
                raise ValueError(f"not_measured: {unknown[0]!r} in {claim.id} is no study of its "
                                 f"data; there are {', '.join(own) or 'none'}")


def load_summary(path: str | Path) -> Summary:
    """Read and check a file of claims. Raises UserError as `load_params` does."""
    return checked(Summary, read_yaml(path), path)


def studied(summary: Summary) -> list[str]:
    """Every study that the claims are read from, once."""
    names = []
    for own in summary.studies.values():
        names += own
    return list(dict.fromkeys([*names, *summary.beside]))


def path_of(study: str) -> str:
    """The params.yaml of a study, seen from the top of the repository."""
    return "params.yaml" if study == "digits" else f"experiments/{study}/params.yaml"


def load_studies(summary: Summary) -> dict[str, Params]:
    """Every study that the claims are read from, by name.

    Raises UserError where one stands under other data than its own.
    """
    found = {name: load_study(path_of(name)) for name in studied(summary)}
    for data, names in summary.studies.items():
        for name in names:
            source = found[name].data.source
            if data not in ("any", source):
                raise UserError(f"{summary.config}: studies.{data}: {name} is a study of {source}")
    return found


def model_of(name: str, params: Params) -> str:
    """What a study calls a claim's model: the pool of `tla` has no name of its own there."""
    return "tla" if name == f"tla-b{params.mining.batch}" else name


def comparison(claim: Claim, params: Params | None) -> tuple:
    """What a claim compares; with params in the names of that study."""
    names = claim.model, claim.baseline
    if params is not None:
        names = model_of(claim.model, params), model_of(claim.baseline, params)
    return *names, claim.primary, claim.equal_within


def together(summary: Summary) -> dict[str, list[Claim]]:
    """The claims that are measured on the same images: by study, or by data that no study has."""
    groups = {}
    for claim in summary.claims:
        for name in summary.studies.get(claim.data) or [claim.data]:
            groups.setdefault(name, []).append(claim)
    return groups


def check_same(summary: Summary, studies: dict[str, Params]) -> None:
    """Raise UserError where claims are one comparison and do not say so, or say so and are not."""
    for name, claims in together(summary).items():
        first = {}
        for claim in claims:
            key = comparison(claim, studies.get(name))
            if claim.same_as is None and first.setdefault(key, claim.id) != claim.id:
                raise UserError(f"{summary.config}: {claim.id}: same_as: is missing; on {name} "
                                f"this is the comparison of {first[key]}")
        for claim in claims:
            key = comparison(claim, studies.get(name))
            if claim.same_as is not None and first.get(key) != claim.same_as:
                raise UserError(f"{summary.config}: {claim.id}: same_as: {claim.same_as} is no "
                                f"claim of the same comparison on {name}; leave it out")
