"""params.yaml as frozen, fully checked dataclasses.

No value has a default here: params.yaml holds every number together with its source. An unknown,
missing or wrong-typed key or a value out of range stops the run with one line (`UserError`).
"""

import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12


class UserError(SystemExit):
    """Something the user can mend: the script ends with this one line and exit status 1."""


def _increasing(values: list[int]) -> list[int]:
    if sorted(set(values)) != values:
        raise ValueError("the values must increase")
    return values


CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)
Integer = Annotated[int, Field(strict=True)]
Real = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[Integer, Field(ge=1)]
Natural = Annotated[Integer, Field(ge=0)]
Weight = Annotated[Real, Field(ge=0)]
Positive = Annotated[Real, Field(gt=0)]
Fraction = Annotated[Real, Field(ge=0, le=1)]
OpenFraction = Annotated[Real, Field(gt=0, lt=1)]


@dataclass(frozen=True, config=CHECKED)
class Limit:
    """Cap on the images of each part; null means all of them."""

    train: Count | None
    validation: Count | None
    test: Count | None


@dataclass(frozen=True, config=CHECKED)
class Data:
    """Where images come from and how they are split.

    `folds` cuts the images into stratified test folds, one per seed; null keeps the official test set.
    `validation` is held out of the training images: a share, or a number of images.
    """

    source: Literal["digits", "mnist", "cifar10", "tiny-imagenet"]
    folds: Annotated[Integer, Field(ge=2)] | None
    split_seed: Natural
    validation: OpenFraction | Count
    limit: Limit


@dataclass(frozen=True, config=CHECKED)
class Model:
    """Network: `widths` are those of its layers, the last being the embedding h.

    Images are normalised by `mean` and `std` per channel, or each by its own where both are null.
    """

    architecture: Literal["mlp", "convnet", "paper-convnet", "preact-resnet18", "wide-resnet", "resnet50-tiny"]
    widths: Annotated[list[Count], Field(min_length=1)]
    mean: list[Real] | None
    std: list[Positive] | None


@dataclass(frozen=True, config=CHECKED)
class TrainingAttack:
    """Threat model and the PGD that training examples are made with (pixels in [0, 1])."""

    eps: Fraction
    step_size: Positive
    steps: Count


@dataclass(frozen=True, config=CHECKED)
class Attack:
    """One attack; `steps` lists the budgets one run is read at. least_likely: targeted cross-entropy."""

    loss: Literal["cross_entropy", "margin", "margin_50", "least_likely"]
    steps: Annotated[list[Count], Field(min_length=1), AfterValidator(_increasing)]
    step_size: Positive
    random_start: Flag
    restarts: Count
    momentum: Literal["none", "l1", "average"]
    decay: Fraction

    def __post_init__(self):
        if self.momentum == "average" and self.decay == 1:
            raise ValueError("an average with decay 1 never moves")
        if self.restarts > 1 and not self.random_start:
            raise ValueError("restarts without a random start repeat one run")


Attacks = Annotated[dict[str, Attack], Field(min_length=1)]


@dataclass(frozen=True, config=CHECKED)
class Train:
    """Optimisation, the same for every method; `selection` is the attack that picks the checkpoint."""

    epochs: Count
    batch: Count
    optimizer: Literal["adam", "sgd"]
    lr: Positive
    momentum: Fraction
    schedule: Literal["constant", "cosine", "triangular", "piecewise"]
    milestones: list[Count]
    weight_decay: Weight
    label_smoothing: Fraction
    eps_ramp_epochs: Natural
    crop_padding: Natural
    flip: Flag
    validate_every: Count
    selection: Attacks


@dataclass(frozen=True, config=CHECKED)
class NoWeights:
    """A method without hyper-parameters of its own."""


@dataclass(frozen=True, config=CHECKED)
class Pairing:
    """Adversarial logit pairing: squared distance between clean and adversarial logits or embeddings."""

    weight: Weight
    pair: Literal["logits", "embedding"]


@dataclass(frozen=True, config=CHECKED)
class Mixed:
    """Kurakin's mixed batch: share of adversarial images and their weight against clean ones."""

    adversarial_share: OpenFraction
    adversarial_weight: Weight


@dataclass(frozen=True, config=CHECKED)
class Trades:
    """TRADES: `beta` weighs the divergence of adversarial from clean predictions (1 / lambda in the paper)."""

    beta: Weight


@dataclass(frozen=True, config=CHECKED)
class Norm:
    """Adversarial training plus the norm term of TLA, on the adversarial and the clean embedding."""

    lambda2: Weight


@dataclass(frozen=True, config=CHECKED)
class Triplet:
    """TLA. A null margin switches that triplet off; one of the two must be on."""

    lambda1: Weight
    lambda2: Weight
    margin_twin: Positive | None
    margin_class: Positive | None

    def __post_init__(self):
        if self.margin_twin is None and self.margin_class is None:
            raise ValueError("margin_twin and margin_class cannot both be null")


@dataclass(frozen=True, config=CHECKED)
class SwitchedTriplet(Triplet):
    """TLA-SA, with a pool of its own so that an ablation of mining.batch leaves it alone."""

    mining_batch: Count


Methods = TypedDict("Methods", {
    "um": NoWeights, "at": NoWeights, "alp": Pairing, "kurakin": Mixed, "trades": Trades,
    "at-norm": Norm, "tla": Triplet, "tla-sa": SwitchedTriplet,
})
Methods.__pydantic_config__ = CHECKED
METHODS = tuple(Methods.__annotations__)


@dataclass(frozen=True, config=CHECKED)
class Mining:
    """`batch` clean images form the pool the hardest negative is taken from; 1 = a random negative."""

    batch: Count


@dataclass(frozen=True, config=CHECKED)
class Ablation:
    """Pool sizes of the mini-batch ablation, 1 (TLA-RN) among them; dvc.yaml names each of the five."""

    batches: Annotated[list[Count], Field(min_length=5, max_length=5)]

    def __post_init__(self):
        if 1 not in self.batches:
            raise ValueError("1 (TLA-RN) must be among the pool sizes")


@dataclass(frozen=True, config=CHECKED)
class Evaluate:
    """White-box suite: every attack by name, run on at most `batch` images at a time.

    Attacks named in `capped` see only the first so many test images, unless the model is named in `full`.
    """

    batch: Count
    capped: dict[str, Count]
    full: list[str]
    attacks: Attacks

    def __post_init__(self):
        if missing := sorted({"fgsm", "pgd", "pgd-restarts", "cw", "mim"} - self.attacks.keys()):
            raise ValueError(f"the report shows these attacks too: {', '.join(missing)}")
        once = {name: len(self.attacks[name].steps) for name in ("fgsm", "pgd-restarts", "cw", "mim")}
        if len(self.attacks["pgd"].steps) < 2 or set(once.values()) != {1}:
            raise ValueError(f"the report reads pgd at two budgets or more, and {', '.join(once)} at one")
        if unknown := sorted(self.capped.keys() - self.attacks.keys()):
            raise ValueError(f"capped names attacks that are not listed: {', '.join(unknown)}")

    def images(self, attack: str, model: str) -> int | None:
        """How many test images an attack on a model sees; None: all."""
        return None if model in self.full else self.capped.get(attack)


@dataclass(frozen=True, config=CHECKED)
class Detect:
    """Misclassification detection at eps = factor x the training eps."""

    eps_factors: Annotated[list[Positive], Field(min_length=1)]
    steps: Count
    step_fraction: OpenFraction
    neighbors: Count
    components: Count
    covariance: Literal["full", "tied", "diag", "spherical"]


@dataclass(frozen=True, config=CHECKED)
class Neighbors:
    """Retrieval of clean training images by an adversarial query."""

    k: Count
    retrieved: Count
    queries: Count
    attack: Attack


@dataclass(frozen=True, config=CHECKED)
class Represent:
    """t-SNE picture and class distances of the embedding."""

    images: Count
    perplexity: Positive
    iterations: Count
    learning_rate: Positive
    attack: Attack


@dataclass(frozen=True, config=CHECKED)
class AutoAttack:
    """AutoAttack on the first `images` test images of these seeds, `batch` at a time."""

    images: Count
    seeds: Annotated[list[Natural], Field(min_length=1), AfterValidator(_increasing)]
    batch: Count


@dataclass(frozen=True, config=CHECKED)
class HopSkip:
    """HopSkipJump on the first `images` test images: iterations, and queries a gradient estimate starts and ends at."""

    images: Count
    iterations: Count
    evaluations: Count
    initial_evaluations: Count


@dataclass(frozen=True, config=CHECKED)
class BlackBox:
    """Attacks without gradients, on the second seed's first `images` test images; `transfer` attacks the first seed."""

    images: Count
    transfer: Attack
    queries: Count
    hop_skip: HopSkip


@dataclass(frozen=True, config=CHECKED)
class Classic:
    """Textbook attacks on the first seed: sign steps without a ball, bisection over eps, DDN, FGSM over eps."""

    images: Count
    step_size: Positive
    steps: Count
    step_fraction: OpenFraction
    halvings: Count
    l2_steps: Count
    leaking_images: Count
    leaking_factors: Annotated[list[Positive], Field(min_length=1)]


@dataclass(frozen=True, config=CHECKED)
class Masking:
    """Diagnostics on the second seed: PGD over eps, and the difference of accuracies from which a sign is flagged."""

    images: Count
    eps_factors: Annotated[list[Positive], Field(min_length=1)]
    steps: Count
    step_fraction: OpenFraction
    tolerance: OpenFraction
    surfaces: Count
    points: Count


@dataclass(frozen=True, config=CHECKED)
class Ood:
    """Out-of-distribution detection: so many images of each source, against as many test images."""

    images: Count
    sources: Annotated[list[Literal["noise", "photos", "digits", "mnist", "cifar10"]], Field(min_length=1)]


@dataclass(frozen=True, config=CHECKED)
class Tune:
    """Hyper-parameter trials per method: dotted keys and the values they take; `attacks` score them on each seed."""

    seeds: Annotated[list[Natural], Field(min_length=1), AfterValidator(_increasing)]
    attacks: Attacks
    trials: dict[str, Annotated[list[dict[str, Real | Integer | None]], Field(min_length=1)]]


@dataclass(frozen=True, config=CHECKED)
class Compare:
    """Differences of AUC: images of each kind, right and wrong, that one needs; size and seed of the bootstrap."""

    least: Count
    resamples: Count
    seed: Natural


@dataclass(frozen=True, config=CHECKED)
class Params:
    """The whole of one params.yaml."""

    root: str
    config: str
    dataset: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    seeds: Annotated[list[Natural], Field(min_length=2), AfterValidator(_increasing)]
    data: Data
    model: Model
    attack: TrainingAttack
    train: Train
    methods: Methods
    mining: Mining
    ablation: Ablation
    evaluate: Evaluate
    detect: Detect
    neighbors: Neighbors
    represent: Represent
    autoattack: AutoAttack
    blackbox: BlackBox
    classic: Classic
    masking: Masking
    ood: Ood
    tune: Tune
    compare: Compare

    def __post_init__(self):
        if not {self.seeds[1]} <= set(self.autoattack.seeds) <= set(self.seeds):
            raise ValueError("autoattack.seeds must hold the second of seeds, which diagnose compares, and no others")


def load_params(path: str | Path) -> Params:
    """Read and check a params.yaml. Raises UserError naming file, key, value and what was expected."""
    return check_params(read_yaml(path), path)


def read_yaml(path: str | Path) -> dict:
    """The plain content of a params.yaml. Raises UserError where there is none or it is not YAML."""
    try:
        return yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a params.yaml") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def check_params(plain: dict, path: str | Path) -> Params:
    """The content of a params.yaml as Params. Raises UserError as `load_params` does."""
    try:
        return TypeAdapter(Params).validate_python(plain)
    except ValidationError as error:
        raise UserError(one_line(path, error)) from None


def one_line(path: str | Path, error: ValidationError) -> str:
    """The first thing wrong with a file: its name, the key, what was expected and what was found."""
    first, *others = error.errors()
    key = ".".join(map(str, first["loc"])) or "top level"
    more = f" (and {len(others)} more)" if others else ""
    return f"{path}: {key}: {first['msg'].lower()}, got {first['input']!r:.60}{more}"


@dataclass(frozen=True)
class ModelId:
    """A trained model: a method and, for TLA, the size of the pool its negatives come from."""

    method: str
    batch: int | None

    def __str__(self) -> str:
        return f"{self.method}-b{self.batch}" if self.method == "tla" else self.method


def parse_model(name: str, params: Params) -> ModelId:
    """'tla-b300' -> TLA with a pool of 300, 'alp' -> ALP. Raises UserError for an unknown name."""
    if match := re.fullmatch(r"tla-b([1-9]\d*)", name):
        return ModelId("tla", int(match[1]))
    if name in METHODS and name != "tla":
        return ModelId(name, params.methods["tla-sa"].mining_batch if name == "tla-sa" else None)
    choices = ", ".join(m if m != "tla" else "tla-b<pool>" for m in METHODS)
    raise UserError(f"unknown model {name!r}; choose one of: {choices}")


def model_names(params: Params) -> list[str]:
    """Every model of the study: what does not mine, the other pools by size, the current TLA last."""
    pools = [b for b in sorted(set(params.ablation.batches)) if b != params.mining.batch]
    swept = [f"tla-b{b}" for b in pools]
    return [m for m in METHODS if m != "tla"] + swept + [f"tla-b{params.mining.batch}"]
