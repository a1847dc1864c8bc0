"""params.yaml as frozen, fully checked dataclasses.

No value has a default here: params.yaml holds every number together with its source. An unknown,
missing or wrong-typed key or a value out of range stops the run with one line (`UserError`).
The sections under `methods` are checked by the files of the methods.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

LONGEST = 600       # characters of a message
MESSAGE = 180       # of what is wrong with a value, in it
LARGEST = 10**6     # bytes of a params.yaml
MOST = 10**5        # values, an alias counted as what it stands for
DEEPEST = 20        # sections within each other
# Names of outcomes, and of columns that are none of an attack.
TAKEN = ("clean", "white-box", "robust", "knn", "mismatch", "union", "complaint",
         "l2", "l0", "l2-apgd", "l2-ddn", "l0-fmn", "l0-pointwise")
FOLDERS = ("raw", "kept", "unfinished", "figures", "benchmarks")    # of data/ and reports/


class UserError(SystemExit):
    """Something the user can mend: the script ends with this one line and exit status 1."""

    def __init__(self, said: str):
        line = " ".join(said.split())
        line = "".join(each if each.isprintable() else "?" for each in line)
        super().__init__(line if len(line) <= LONGEST else f"{line[:LONGEST]} ...")


def _increasing(values: list[int]) -> list[int]:
    if sorted(set(values)) != values:
        raise ValueError("the values must increase")
    return values


def _plain(attacks: dict) -> dict:
    for name, attack in attacks.items():
        if attack.loss not in ("cross_entropy", "margin") or attack.momentum != "none":
            raise ValueError(f"{name}: checkpoints and trials are chosen by cross_entropy or "
                             f"margin without momentum, not {attack.loss} with {attack.momentum}")
    return attacks


def _number(value: object) -> object:
    if value is not None and type(value) not in (int, float):
        raise ValueError("a number or null is expected")
    return value


def different(values: list) -> list:
    shown = [f"{value:g}" if isinstance(value, float) else value for value in values]
    if len(set(shown)) < len(shown):    # columns are named so
        raise ValueError("a value stands twice")
    return values


CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)
Integer = Annotated[int, Field(strict=True)]
Real = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Number = Annotated[Any, AfterValidator(_number)]
# Bounds far beyond sense: what lies outside would overflow, or run for years.
Count = Annotated[Integer, Field(ge=1, le=10**9)]
Sample = Annotated[Count, Field(ge=20)]     # fewer images could be all of one class
Natural = Annotated[Integer, Field(ge=0, le=10**9)]
Seed = Annotated[Integer, Field(ge=0, lt=2**32)]    # as NumPy has it
Weight = Annotated[Real, Field(ge=0, le=1e6)]
Positive = Annotated[Real, Field(gt=0, le=1e6)]
Factor = Annotated[Real, Field(gt=0, le=10)]    # of eps, which itself is at most 1
Rate = Annotated[Real, Field(gt=0, le=100)]     # of learning; a larger one overflows float32
Radius = Annotated[Real, Field(gt=0, le=1000)]
Pixels = Annotated[Integer, Field(ge=1, le=10**5)]
Fraction = Annotated[Real, Field(ge=0, le=1)]
OpenFraction = Annotated[Real, Field(gt=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40)]
# One line, in which no table, link or HTML of a report can begin or end.
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f<>\[\]|`\\]+$", max_length=300)]
Names = Annotated[list[Name], Field(min_length=1), AfterValidator(different)]
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_increasing)]
Factors = Annotated[list[Factor], Field(min_length=1), AfterValidator(different)]


@dataclass(frozen=True, config=CHECKED)
class Limit:
    """Cap on the images of each part; null means all of them."""

    train: Count | None
    validation: Count | None
    test: Count | None


@dataclass(frozen=True, config=CHECKED)
class Data:
    """Where images come from and how they are split.

    `folds` cuts the images into stratified test folds, one per seed; null keeps the official test
    set. `validation` is held out of the training images: a share, or a number of images.
    """

    source: Literal["digits", "mnist", "cifar10", "tiny-imagenet"]
    folds: Annotated[Integer, Field(ge=2)] | None
    split_seed: Seed
    validation: OpenFraction | Count
    limit: Limit

    def __post_init__(self):
        if self.source == "digits" and self.folds is None:
            raise ValueError("folds: null, but digits has no test images of its own; give a number "
                             "of folds")


@dataclass(frozen=True, config=CHECKED)
class Model:
    """Network: `widths` are those of its layers, the last being the embedding h.

    Images are normalised by `mean` and `std` per channel, or each by its own where both are null.
    `channels_last` is the layout of activations in memory; it decides the last bits, and speed.
    """

    architecture: Literal["mlp", "convnet", "convnet-bn", "paper-convnet", "preact-resnet18",
                          "preact-resnet18-s2d", "wide-resnet", "resnet50-tiny"]
    widths: Annotated[list[Annotated[Count, Field(le=10**6)]], Field(min_length=1, max_length=100)]
    mean: list[Annotated[Real, Field(ge=-1000, le=1000)]] | None
    std: list[Annotated[Real, Field(ge=1e-6, le=1000)]] | None
    channels_last: Flag


@dataclass(frozen=True, config=CHECKED)
class TrainingAttack:
    """Threat model and the PGD that makes training images; `rel_step_size` is a share of eps.

    `mode` is that of batch norm meanwhile: in training mode images are normalised by their batch,
    and every step moves the running statistics.
    """

    eps: Fraction
    rel_step_size: Factor
    steps: Count
    mode: Literal["evaluation", "training"]


@dataclass(frozen=True, config=CHECKED)
class Attack:
    """A gradient attack; `steps` lists the budgets that one run is read at.

    `rel_step_size` is a share of eps. The loss least_likely is targeted cross-entropy.
    """

    kind: Literal["gradient"]
    loss: Literal["cross_entropy", "margin", "margin_50", "least_likely"]
    steps: Annotated[list[Count], Field(min_length=1), AfterValidator(_increasing)]
    rel_step_size: Factor
    random_start: Flag
    restarts: Count
    momentum: Literal["none", "l1", "average"]
    decay: Fraction

    def __post_init__(self):
        if self.momentum == "average" and self.decay == 1:
            raise ValueError("an average with decay 1 never moves")
        if self.restarts > 1 and not self.random_start:
            raise ValueError("restarts without a random start repeat one run")


@dataclass(frozen=True, config=CHECKED)
class AutoAttack:
    """The standard version of AutoAttack, on `batch` images at a time."""

    kind: Literal["autoattack"]
    batch: Count


@dataclass(frozen=True, config=CHECKED)
class Square:
    """The score-based Square attack with so many queries an image."""

    kind: Literal["square"]
    queries: Count


Choosing = Annotated[dict[Name, Attack], AfterValidator(_plain)]
Suite = dict[Name, Annotated[Attack | AutoAttack | Square, Field(discriminator="kind")]]


@dataclass(frozen=True, config=CHECKED)
class SelectionImages:
    """What checkpoints are picked on: the `first` so many images of a part, null = all."""

    part: Literal["validation", "test"]
    first: Count | None


@dataclass(frozen=True, config=CHECKED)
class Train:
    """Optimisation, the same for every method but for the peak of its learning rate, `lr` of each.

    `selection` holds the attacks that pick checkpoints; without any, clean accuracy does.
    `precision` is that of forward passes in training; weights and validation are in float32.
    `stored` is what a trained network's weights are rounded to in its file: every measurement is of
    the rounded ones, computed in float32.
    """

    precision: Literal["float32", "bfloat16"]
    stored: Literal["float32", "float16"]
    epochs: Count
    batch: Count
    optimizer: Literal["adam", "sgd"]
    momentum: Fraction
    schedule: Literal["constant", "cosine", "triangular", "piecewise"]
    milestones: list[Count]
    weight_decay: Weight
    label_smoothing: Fraction
    eps_ramp_epochs: Natural
    crop_padding: Annotated[Integer, Field(ge=0, le=64)]
    flip: Flag
    validate_every: Count
    selection_images: SelectionImages
    selection: Choosing


@dataclass(frozen=True, config=CHECKED)
class Mining:
    """`batch` clean images form the pool of the hardest negative; 1 = a random negative."""

    batch: Count


@dataclass(frozen=True, config=CHECKED)
class Precision:
    """In what the steps of the suite's gradient attacks run; float32 decides every outcome.

    Where `search` is bfloat16, so many steps before each budget are in float32 (`exact_steps`).
    """

    search: Literal["float32", "bfloat16"]
    exact_steps: Natural


@dataclass(frozen=True, config=CHECKED)
class Draws:
    """How often networks that answer by chance are asked.

    A gradient is the mean over `attack` draws; as many as `judge` fresh ones say who is right.
    """

    attack: Count
    judge: Annotated[Integer, Field(ge=2)]


@dataclass(frozen=True, config=CHECKED)
class Broken:
    """Test images that a gradient attack broke on the first seed: at most so many are kept."""

    attack: Name
    images: Count


@dataclass(frozen=True, config=CHECKED)
class Evaluate:
    """The suite: every attack by name; gradient attacks see `batch` images at a time.

    An attack named in `images` sees so many test images of a seed, others all; one named in `seeds`
    sees the networks of these training seeds, others all. `sample_seed` draws the samples.
    """

    batch: Count
    precision: Precision
    draws: Draws
    sample_seed: Seed
    images: dict[Name, Count]
    seeds: dict[Name, Seeds]
    broken: Broken
    attacks: Suite

    def __post_init__(self):
        once = ("fgsm", "pgd-restarts", "cw", "mim")
        if missing := sorted({"pgd", *once, "autoattack", "square"} - self.attacks.keys()):
            raise ValueError(f"the report shows these attacks too: {', '.join(missing)}")
        budgets = {name: self._budgets(name) for name in ("pgd", *once)}
        if budgets.pop("pgd") < 2 or set(budgets.values()) != {1}:
            raise ValueError(f"the report reads pgd at two budgets or more, and {', '.join(once)} "
                             "at one")
        for name in ("autoattack", "square"):
            if self.attacks[name].kind != name:
                raise ValueError(f"attacks.{name} must be of kind {name}")
        if unknown := sorted((self.images.keys() | self.seeds.keys()) - self.attacks.keys()):
            raise ValueError(f"images or seeds name attacks that are not listed: {unknown}")
        if not self._budgets(self.broken.attack):
            raise ValueError(f"broken.attack: {self.broken.attack!r} is no gradient attack of the "
                             "suite")
        self._refuse_alike()

    def _refuse_alike(self) -> None:
        """Raise ValueError for names that would be mistaken for another's in tables and metrics."""
        seen = {}
        for name, attack in self.attacks.items():
            if name in TAKEN:
                raise ValueError(f"attacks.{name}: this name has a meaning of its own in tables")
            if attack.kind == "autoattack" and name != "autoattack":
                raise ValueError(f"attacks.{name}: there can be one attack of kind autoattack")
            for outcome in self.outcomes(name):
                other = seen.setdefault(outcome.replace("-", "_"), outcome)
                if other != outcome:
                    raise ValueError(f"attacks.{name}: its outcome {outcome} looks like {other}; "
                                     "rename it")

    def _budgets(self, name: str) -> int:
        attack = self.attacks.get(name)
        return len(attack.steps) if isinstance(attack, Attack) else 0

    def outcomes(self, name: str) -> list[str]:
        """The columns of an attack's outcomes in rows, as tla.outcomes names them."""
        if not self._budgets(name):
            return [f"{name}_worst"]
        steps = self.attacks[name].steps
        budgets = [f"_{budget}" for budget in steps] if len(steps) > 1 else [""]
        return [f"{name}{budget}_{convention}" for budget in budgets
                for convention in ("last", "worst")]


@dataclass(frozen=True, config=CHECKED)
class HopSkip:
    """HopSkipJump on so many test images: iterations, and queries of a gradient estimate."""

    images: Count
    iterations: Count
    evaluations: Count
    initial_evaluations: Count

    def __post_init__(self):
        if self.initial_evaluations > self.evaluations:
            raise ValueError("initial_evaluations must not exceed evaluations, to which they grow")


@dataclass(frozen=True, config=CHECKED)
class Textbook:
    """Textbook attacks on the first seed: steps without a ball, bisection, DDN, FGSM over eps."""

    images: Count
    rel_step_size: Factor
    steps: Count
    halvings: Count
    l2_steps: Count
    leaking_images: Count
    leaking_factors: Factors


@dataclass(frozen=True, config=CHECKED)
class Masking:
    """Diagnostics on the second seed: PGD over eps; `tolerance` is where a sign is flagged."""

    images: Count
    eps_factors: Factors
    rel_step_size: OpenFraction
    steps: Count
    tolerance: OpenFraction
    surfaces: Count
    points: Annotated[Count, Field(le=500)]     # squared, they are images in memory at a time


@dataclass(frozen=True, config=CHECKED)
class Apgd:
    """APGD in L2: steps of a run, and how many of the likeliest other classes it is aimed at."""

    steps: Count
    targets: Count


@dataclass(frozen=True, config=CHECKED)
class Ddn:
    """DDN: steps toward the smallest change."""

    steps: Count


@dataclass(frozen=True, config=CHECKED)
class Fmn:
    """FMN in L0: steps, and the L2 norm of the first of them."""

    steps: Count
    step_size: Positive


@dataclass(frozen=True, config=CHECKED)
class Pointwise:
    """The pointwise attack: steps of the noise that it starts from, and starts."""

    noise_steps: Count
    restarts: Count


@dataclass(frozen=True, config=CHECKED)
class Norms:
    """Attacks in norms that no model was trained against, on `images` test images of each seed.

    `l2_radii` are L2 norms of a change of pixels in [0, 1], `l0_radii` numbers of pixels.
    """

    images: Count
    l2_radii: Annotated[list[Radius], Field(min_length=1), AfterValidator(_increasing),
                        AfterValidator(different)]
    l0_radii: Annotated[list[Pixels], Field(min_length=1), AfterValidator(_increasing)]
    apgd: Apgd
    ddn: Ddn
    fmn: Fmn
    pointwise: Pointwise


@dataclass(frozen=True, config=CHECKED)
class Transfer:
    """Images made on the first seed of every model and judged by the second seed of every model."""

    images: Count
    attack: Attack


@dataclass(frozen=True, config=CHECKED)
class Aware:
    """The attacker who knows the score, on so many test images of a seed, at some of the eps.

    `halvings`: rounds of the search for the weight between cross-entropy and the score.
    """

    images: Count
    eps_factors: Annotated[Factors, AfterValidator(_increasing)]
    halvings: Count


@dataclass(frozen=True, config=CHECKED)
class Detect:
    """Misclassification detection at eps = factor x the training eps."""

    eps_factors: Factors
    rel_step_size: OpenFraction
    steps: Count
    neighbors: Count
    components: Count
    covariance: Literal["full", "tied", "diag", "spherical"]
    aware: Aware

    def __post_init__(self):
        if other := sorted(set(self.aware.eps_factors) - set(self.eps_factors)):
            raise ValueError(f"aware.eps_factors: not among eps_factors: {other}")


@dataclass(frozen=True, config=CHECKED)
class Mismatch:
    """Targeted mismatch: so many queries of a seed are moved to look like another class's image."""

    images: Sample
    rel_step_size: OpenFraction
    steps: Count


@dataclass(frozen=True, config=CHECKED)
class Neighbors:
    """Retrieval of clean training images by an adversarial query."""

    k: Count
    retrieved: Count
    queries: Count
    attack: Attack
    mismatch: Mismatch

    def __post_init__(self):
        if self.retrieved > self.k:
            raise ValueError("retrieved must not exceed k")


@dataclass(frozen=True, config=CHECKED)
class Represent:
    """Models whose embedding is looked into, with `queries` test images of a seed (null: all).

    The rest is the t-SNE picture of it, `images` clean and as many adversarial ones.
    """

    models: Names
    queries: Count | None
    images: Sample
    perplexity: Positive
    iterations: Annotated[Integer, Field(ge=250, le=10**6)]     # scikit-learn's least
    learning_rate: Positive
    attack: Attack


@dataclass(frozen=True, config=CHECKED)
class Ood:
    """Out-of-distribution detection: so many images of each source, against as many test images."""

    images: Annotated[Count, Field(le=10**5)]
    sources: Annotated[list[Literal["noise", "photos", "digits", "mnist", "cifar10"]],
                       Field(min_length=1), AfterValidator(different)]


@dataclass(frozen=True, config=CHECKED)
class Range:
    """From `low` to `high`; trials are spread evenly over the logarithm."""

    low: Positive
    high: Positive

    def __post_init__(self):
        if self.low >= self.high:
            raise ValueError("low must be below high")


def _axis_form(axis: object) -> str:
    return "choices" if isinstance(axis, list) else "range"


def _space_form(space: object) -> str:
    return "listed" if isinstance(space, list) else "drawn"


FORMS = ("choices", "range", "listed", "drawn")
Choices = Annotated[list[Number], Field(min_length=1)]
Axis = Annotated[Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")],
                 Discriminator(_axis_form)]
Drawn = Annotated[dict[str, Axis], Field(min_length=1)]
Listed = list[Annotated[dict[str, Number], Field(min_length=1)]]
Space = Annotated[Annotated[Drawn, Tag("drawn")] | Annotated[Listed, Tag("listed")],
                  Discriminator(_space_form)]


@dataclass(frozen=True, config=CHECKED)
class Tune:
    """So many trials of every method, whose dotted keys take the values of its space.

    A space gives each key a range or a list of values, and trials are drawn with `seed`; or it
    lists the trials themselves. `attacks` score a trial on each of the `seeds`; with `halving`, a
    seed is for the better half of those that had the one before (successive halving, Jamieson and
    Talwalkar 2016).
    """

    trials: Annotated[Integer, Field(ge=1, le=10_000)]
    seed: Seed
    seeds: Seeds
    halving: Flag
    attacks: Annotated[Choosing, Field(min_length=1)]
    space: dict[Name, Space]

    def __post_init__(self):
        for method, space in self.space.items():
            if isinstance(space, list) and len(space) != self.trials:
                raise ValueError(f"space.{method} lists {len(space)} trials, but every method gets "
                                 f"{self.trials}")


@dataclass(frozen=True, config=CHECKED)
class Variant:
    """Models trained with other values than the study's: dotted keys of this file, and values."""

    models: Names
    seeds: Seeds
    changes: dict[str, Any]


@dataclass(frozen=True, config=CHECKED)
class Scale:
    """Series of variants by what grows in them, and the outcome that they are read by.

    TLA is set against AT and ALP. `authors`: multiply-adds of the authors' own training of TLA,
    counted as ours; null = unknown.
    """

    outcome: str
    series: dict[Name, Annotated[Names, Field(min_length=2)]]
    authors: Annotated[Real, Field(gt=0)] | None


@dataclass(frozen=True, config=CHECKED)
class Reading:
    """TLA of one variant minus AT of another under an outcome; `says` what is special about it.

    `source`: where that is known from, "ours: ..." where the authors' code does not show it.
    """

    says: Text
    source: Text
    tla: Name
    at: Name
    outcome: str


@dataclass(frozen=True, config=CHECKED)
class Gain:
    """What adds to TLA minus AT: equal treatment, then other treatments one by one and together."""

    equal: Reading
    alone: Annotated[list[Reading], Field(min_length=1)]
    together: Annotated[list[Reading], Field(min_length=1)]

    @property
    def readings(self) -> list[Reading]:
        """All of them, equal treatment first."""
        return [self.equal, *self.alone, *self.together]


@dataclass(frozen=True, config=CHECKED)
class Variants:
    """Models with other values than the study's, and what is asked of them; all may be empty.

    `attacks`: of the suite, and how many images of a seed each sees; `part`: of which these are.
    `gain`: by the network that it is asked in.
    """

    part: Literal["validation", "test"]
    attacks: dict[Name, Count]
    trained: dict[Name, Variant]
    scale: Scale | None
    gain: dict[Name, Gain] | None

    def __post_init__(self):
        if self.trained and not self.attacks:
            raise ValueError("attacks: name one at least")
        for key, pairs in self.compared.items():
            for name, model in pairs:
                if name not in self.trained:
                    raise ValueError(f"{key}: {name!r} is not among variants.trained")
                if model not in self.trained[name].models:
                    raise ValueError(f"{key}: {model} is not among the models of {name!r}")
            if len({tuple(self.trained[name].seeds) for name, _ in pairs}) > 1:
                raise ValueError(f"{key}: its variants need the same seeds: they are paired")

    @property
    def compared(self) -> dict[str, list[tuple[str, str]]]:
        """What is set against each other, (variant, model), by the key that says so."""
        found = {"scale": []}
        for series in self.scale.series.values() if self.scale else []:
            found["scale"] += product(series, ("at", "alp", "tla"))
        for network, gain in (self.gain or {}).items():
            pairs = found[f"gain.{network}"] = []
            for reading in gain.readings:
                pairs += [(reading.tla, "tla"), (reading.at, "at")]
        return found

    @property
    def outcomes(self) -> list[str]:
        """What is read of them."""
        found = [self.scale.outcome] if self.scale else []
        for gain in (self.gain or {}).values():
            found += [reading.outcome for reading in gain.readings]
        return found


@dataclass(frozen=True, config=CHECKED)
class Compare:
    """Differences of AUC: images right, and wrong, that one needs; size and seed of resampling.

    examples: images to be looked at that one model survives and another does not, of each pair.
    """

    least: Count
    resamples: Annotated[Count, Field(le=10**6)]
    seed: Seed
    examples: Count


@dataclass(frozen=True, config=CHECKED)
class Params:
    """The whole of one params.yaml.

    Models named in `clean_selection` pick their checkpoints by clean accuracy, not under attack.
    Without `cache_models` DVC caches and stores no weights; what was measured on them it does.
    `fewer_seeds`: models that are trained with so many of the seeds, the first, and not with all.
    """

    root: str
    config: str
    dataset: Name
    seeds: Annotated[Seeds, Field(min_length=2)]
    models: Names
    fewer_seeds: dict[Name, Annotated[Integer, Field(ge=2)]]
    cache_models: bool
    data: Data
    model: Model
    attack: TrainingAttack
    train: Train
    clean_selection: Annotated[list[Name], AfterValidator(different)]
    methods: dict[Name, Any]
    mining: Mining
    evaluate: Evaluate
    textbook: Textbook
    hop_skip: HopSkip
    masking: Masking
    norms: Norms
    transfer: Transfer
    detect: Detect
    neighbors: Neighbors
    represent: Represent
    ood: Ood
    variants: Variants
    compare: Compare
    tune: Tune

    def __post_init__(self):
        self._refuse_other_models()
        self._refuse_other_seeds()
        if self.train.batch == 1 and self.model.architecture not in ("mlp", "convnet"):
            raise ValueError("train.batch: 1 is too few for the batch norm of "
                             f"{self.model.architecture}; raise it")
        if self.hop_skip.images > self.masking.images:
            raise ValueError("hop_skip.images must not exceed masking.images")
        for name, seeds in self.evaluate.seeds.items():
            if not {self.seeds[1]} <= set(seeds) <= set(self.seeds):
                raise ValueError(f"evaluate.seeds.{name} must hold the second seed, where signs "
                                 "of masking are looked for, and no others than seeds")
        broken = self.evaluate.broken.attack
        if self.seeds[0] not in self.evaluate.seeds.get(broken, self.seeds):
            raise ValueError(f"evaluate.broken.attack: {broken} does not see the first seed")
        if self.data.source in self.ood.sources:
            raise ValueError(f"ood.sources: {self.data.source} is what the study itself is of")
        self._refuse_other_places()
        self._refuse_foreign_variants()

    def seeds_of(self, name: str) -> list[int]:
        """The seeds that a model of this study is trained with."""
        return self.seeds[:self.fewer_seeds.get(name)]

    def trained_with(self, name: str) -> "Params":
        """The parameters that a model of this study is trained with."""
        if name not in self.clean_selection:
            return self
        train = dataclasses.replace(self.train, selection={})
        return dataclasses.replace(self, train=train)

    def _refuse_other_models(self) -> None:
        """Raise ValueError where the report lacks models, or a list names some that are not."""
        reported = {"um", "at", "alp", "tla"}
        represented = self.represent.models
        for key, names in (("models", self.models), ("represent.models", represented)):
            if absent := sorted(reported - set(names)):
                raise ValueError(f"{key}: the report needs these too: {', '.join(absent)}")
        for key, names in (("represent.models", represented), ("fewer_seeds", self.fewer_seeds),
                           ("clean_selection", self.clean_selection)):
            if absent := sorted(set(names) - set(self.models)):
                raise ValueError(f"{key}: not among the models: {', '.join(absent)}")

    def _refuse_other_seeds(self) -> None:
        """Raise ValueError for `fewer_seeds` that are no fewer, or where all are needed."""
        for name, seeds in self.fewer_seeds.items():
            if name in self.represent.models:
                raise ValueError(f"fewer_seeds: {name} is among represent.models, which have all")
            if seeds >= len(self.seeds):
                raise ValueError(f"fewer_seeds.{name}: {seeds} of {len(self.seeds)} seeds are not "
                                 "fewer")

    def _refuse_other_places(self) -> None:
        """Raise ValueError where the study would read or write in places of others."""
        if self.dataset in FOLDERS:
            raise ValueError(f"dataset: {self.dataset} is a folder of its own in data or reports")
        own = f"experiments/{self.dataset}/params.yaml"
        if (self.root, self.config) not in ((".", "params.yaml"), ("../..", own)):
            raise ValueError(f"root, config: must be '.' and params.yaml, or ../.. and {own}")

    def _refuse_foreign_variants(self) -> None:
        """Raise ValueError for attacks, models or seeds of variants that the study lacks."""
        attacks = self.variants.attacks
        if unknown := sorted(attacks.keys() - self.evaluate.attacks.keys()):
            raise ValueError(f"variants.attacks: not among evaluate.attacks: {unknown}")
        for name, variant in self.variants.trained.items():
            for key, own, all_ in (("models", variant.models, self.models),
                                   ("seeds", variant.seeds, self.seeds)):
                if absent := [each for each in own if each not in all_]:
                    raise ValueError(f"variants.trained.{name}.{key}: not of the study: {absent}")
        known = [outcome for name in attacks for outcome in self.evaluate.outcomes(name)]
        for outcome in self.variants.outcomes:
            if outcome not in known:
                raise ValueError(f"variants: {outcome!r} is no outcome of its attacks; there are "
                                 f"{', '.join(known)}")


def load_params(path: str | Path) -> Params:
    """Read and check a params.yaml. Raises UserError with file, key, value and remedy."""
    params = check_params(read_yaml(path), path)
    if (same := f"tla-b{params.mining.batch}") in params.models:
        raise UserError(f"{path}: mining.batch: {params.mining.batch} is the pool of {same} too; "
                        "choose another, or leave that out of models")
    return params


@contextmanager
def blamed(path: str | Path) -> Iterator[None]:
    """Puts a file's name before whatever UserError its values lead to."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{path}: {error}") from None


def read_yaml(path: str | Path) -> dict:
    """The plain content of a params.yaml, read as DVC reads it: YAML 1.2, and no key twice.

    Raises UserError where there is none, or where it is no YAML, or too much or too deep.
    """
    text = _read_text(Path(path))
    try:
        _refuse_bombs(text, path)
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError) as error:
        said, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise UserError(f"{path}: not YAML: {line}{said or error}") from None


def _read_text(path: Path) -> str:
    try:
        if not path.is_file():
            raise UserError(f"{path}: no such file; name a params.yaml")
        content = path.read_bytes()
        if len(content) > LARGEST:
            raise UserError(f"{path}: is larger than any params.yaml, which has {LARGEST} bytes at "
                            "the most")
        return content.decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text in UTF-8; name a params.yaml") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _refuse_bombs(text: str, path: str | Path) -> None:
    """Raise UserError for what is small in the file and large, or endless, when it is read."""
    sizes, open_ = {}, [(None, 0)]      # of what has an anchor; of what is not over
    for event in YAML(typ="safe").parse(text):
        size = 0
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            open_.append((event.anchor, 0))
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            anchor, size = open_.pop()
            sizes[anchor] = size
        elif isinstance(event, AliasEvent):
            within = event.anchor in [anchor for anchor, _ in open_]    # itself: endless
            size = MOST if within else sizes.get(event.anchor, 1)
        elif isinstance(event, ScalarEvent):
            size = sizes[event.anchor] = 1
        anchor, before = open_.pop()
        open_.append((anchor, before + size))
        if before + size >= MOST or len(open_) > DEEPEST:
            raise UserError(f"{path}: line {event.start_mark.line + 1}: too many values, or too "
                            "many sections within each other, for a params.yaml")


def check_params(plain: dict, path: str | Path) -> Params:
    """The content of a params.yaml as Params. Raises UserError as `load_params` does."""
    return checked(Params, plain, path)


def check_space(params: Params, path: str | Path) -> None:
    """Raise UserError for a key of the space of trials that could not change its method."""
    plain = dataclasses.asdict(params)
    for method, space in params.tune.space.items():
        if method not in params.methods:
            raise UserError(f"{path}: tune.space.{method}: has no section under methods; choose "
                            f"one of {', '.join(params.methods)}")
        for keys in space if isinstance(space, list) else [space]:
            for key in keys:
                if not _is_value(plain, key):
                    raise UserError(f"{path}: tune.space.{method}: {key}: no such value in this "
                                    "file; name one by its sections, with dots between")
                if key.startswith("methods.") and not key.startswith(f"methods.{method}."):
                    raise UserError(f"{path}: tune.space.{method}: {key}: is of another method; "
                                    f"name one of methods.{method}")


def _is_value(plain: object, key: str) -> bool:
    """Whether nested dictionaries have a dotted key, and no further section under it."""
    for part in key.split("."):
        if not isinstance(plain, dict) or part not in plain:
            return False
        plain = plain[part]
    return not isinstance(plain, dict)


def checked(kind: type, plain: object, path: str | Path, place: tuple[str, ...] = ()):
    """Plain data as `kind`. Raises UserError naming file, key, value and what was expected."""
    try:
        return TypeAdapter(kind).validate_python(plain)
    except ValidationError as error:
        raise UserError(_one_line(path, place, error)) from None


def _one_line(path: str | Path, place: tuple[str, ...], error: ValidationError) -> str:
    first, *others = error.errors()
    key = ".".join(_key((*place, *first["loc"])))
    said = first["msg"].removeprefix("Value error, ")[:MESSAGE]     # it may hold the value whole
    found = first["input"]
    whole = isinstance(found, dict) and found       # a section would be cut off in the middle
    got = "" if whole else f", got {found!r:.60}"
    more = f" (and {len(others)} more)" if others else ""
    return f"{path}: {f'{key}: ' if key else ''}{said[0].lower()}{said[1:]}{got}{more}"


def _key(place: tuple[str | int, ...]) -> list[str]:
    """The key as the file has it: pydantic adds the kind of an attack and the form of a space."""
    names = [str(part) if str(part).isprintable() else repr(part) for part in place]
    if names[:2] == ["tune", "space"]:
        return [name for name in names if name not in FORMS]
    if names[:2] == ["evaluate", "attacks"] and len(names) > 3:
        del names[3]
    return names
