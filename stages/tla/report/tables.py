"""From rows, one per test image, to the lines of every table about single models.

Each function takes the rows of one model and gives lines without the model's name, which
`by_model` puts in front.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pandas as pd

from tla.outcomes import Outcome, draw_std, outcome_columns
from tla.params import Params
from tla.report.detection import SCORES, auc, spread_of
from tla.report.statistics import paired_difference, wilson

READING = "pgd-restarts_last"       # what comparisons are read by first
Rows = dict[str, pd.DataFrame]      # by model


def counted_outcome(params: Params, attack: str) -> str:
    """The outcome of an attack at its largest budget, by the paper's convention if it has two."""
    # The largest budget comes last, `last` before `worst`; other attacks have one outcome.
    first, *_ = params.evaluate.outcomes(attack)[-2:]
    return first


def by_model(rows: Rows, lines: Callable[..., Iterable[dict]], *settings) -> pd.DataFrame:
    """lines(rows of a model, *settings) of every model below each other, the model in front."""
    found = []
    for model, part in rows.items():
        found += [{"model": model} | line for line in lines(part, *settings)]
    return pd.DataFrame(found)


def lookup(table: pd.DataFrame, *keys: str) -> dict[tuple, dict]:
    """Lines of a table by the values of some columns."""
    return {tuple(line[key] for key in keys): line for line in table.to_dict("records")}


def accuracy_lines(rows: pd.DataFrame) -> Iterator[dict]:
    """A line per outcome: accuracy, Wilson 95 % interval over images, spread over seeds.

    An image counts once, with its mean over seeds; `images` are different ones, `std` is the
    standard deviation over training seeds. An attack that was run on no image has no line.
    """
    for outcome in outcome_columns(rows):
        per_image = rows[outcome].groupby(rows.idx).mean().dropna()
        per_seed = rows[outcome].groupby(rows.seed).mean().dropna()
        if len(per_image):
            low, high = wilson(per_image.mean(), len(per_image))
            yield {"outcome": outcome, "accuracy": per_image.mean(), "low": low, "high": high,
                   "std": per_seed.std(), "images": len(per_image), "seeds": len(per_seed)}


def seed_lines(rows: pd.DataFrame) -> Iterator[dict]:
    """A line per training seed: accuracy on clean images and under the attack that leads."""
    for seed, part in rows.groupby("seed"):
        yield {"seed": seed, "clean": part.clean.mean(), READING: part[READING].mean()}


def with_retrieved(outcomes: pd.DataFrame, rows: pd.DataFrame | None, name: str,
                   column: str) -> pd.DataFrame:
    """The outcomes of a model, and one more where queries were looked up: their class retrieved.

    column: of rows, the class of a query's neighbours.
    """
    if rows is None:
        return outcomes
    right = (rows[column] == rows.label).astype(float)
    return outcomes.merge(rows[["seed", "idx"]].assign(**{name: right}), how="left",
                          on=["seed", "idx"])


def differences(outcomes: Rows, pairs: list[tuple[str, str]], shared: bool) -> pd.DataFrame:
    """One line per pair and outcome that both have, over the seeds that both have.

    `shared`: all seeds have the same images. Raises ValueError where images do not match.
    """
    lines = []
    for model, baseline in pairs:
        a, b = of_both(outcomes[model], outcomes[baseline])
        for outcome in outcome_columns(a):
            if outcome in b and (gain := minus(a, b, outcome)).notna().any():
                lines.append({"model": model, "baseline": baseline, "outcome": outcome,
                              **interval(gain, a, shared)})
    return pd.DataFrame(lines)


def of_both(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of two models that are of seeds which both have."""
    seeds = set(a.seed) & set(b.seed)
    a, b = a[a.seed.isin(seeds)], b[b.seed.isin(seeds)]
    return a.reset_index(drop=True), b.reset_index(drop=True)


def minus(a: pd.DataFrame, b: pd.DataFrame, outcome: str) -> pd.Series:
    """Outcome of a minus that of b, image by image. Raises ValueError for other images or seeds."""
    if not a[["seed", "idx"]].equals(b[["seed", "idx"]]):
        raise ValueError("rows that are set against each other are not of the same images")
    return a[outcome] - b[outcome]


def interval(values: pd.Series, rows: pd.DataFrame, shared: bool) -> dict[str, float | int]:
    """`paired_difference` of values, one for each of the rows, where they are not empty."""
    seen = values.notna()
    seeds = of_seeds(values[seen], rows[seen], shared)
    return paired_difference(seeds, shared) | {
        "images": rows.idx[seen].nunique(), "seeds": len(seeds)}


def of_seeds(values: pd.Series, rows: pd.DataFrame, shared: bool) -> list[np.ndarray]:
    """The values of each seed. Raises ValueError where seeds should share images and do not."""
    seeds, images, values = rows.seed.to_numpy(), rows.idx.to_numpy(), values.to_numpy()
    found, first = [], None
    for seed in np.unique(seeds):
        here = seeds == seed
        first = images[here] if first is None else first
        if shared and not np.array_equal(images[here], first):
            raise ValueError("an attack saw different images of different seeds")
        found.append(values[here])
    return found


def autoattack_line(suite: pd.DataFrame) -> list[dict]:
    """Accuracy after each attack of AutoAttack in turn, and on how many seeds it complained.

    The interval, spread, images and seeds are those of the last; `clean` is on the same images.
    """
    rows = suite[suite["autoattack_worst"].notna()]
    line = {"clean": rows["clean"].mean()}
    for outcome in outcome_columns(rows):
        if Outcome.parse(outcome).attack == "autoattack":
            line[outcome] = rows[outcome].mean()
    last = next(each for each in accuracy_lines(rows) if each["outcome"] == "autoattack_worst")
    line |= {name: last[name] for name in ("low", "high", "std", "images", "seeds")}
    for complaint in rows.filter(regex="^complaint_"):
        line[complaint] = int(rows.groupby("seed")[complaint].max().sum())
    return [line]


DRAW_COLUMNS = ["model", "outcome", "accuracy", "draw_std", "draws", "images", "seeds"]


def draws_lines(rows: pd.DataFrame) -> Iterator[dict]:
    """A line per outcome of a stochastic network: mean over draws and their spread; else none."""
    if "draws" not in rows:
        return
    for outcome in outcome_columns(rows):
        seen, draws = rows[rows[outcome].notna()], int(rows.draws.max())
        if len(seen):
            yield {"outcome": outcome, "accuracy": seen[outcome].groupby(seen.idx).mean().mean(),
                   "draw_std": draw_std(seen[outcome], draws), "draws": draws,
                   "images": seen.idx.nunique(), "seeds": seen.seed.nunique()}


def transfer_matrix(transfer: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    """Accuracy of every model (column) on the images made on another (line, named in `source`)."""
    matrix = pd.DataFrame(index=models)
    for target in models:
        right = transfer[f"pred_{target}"] == transfer.label
        matrix[target] = right.groupby(transfer.source).mean()
    return matrix.rename_axis("source").reset_index()


def withstood(transfer: pd.DataFrame, target: str) -> pd.Series:
    """By image: 1 where a model is right on what every model, itself included, made of it."""
    right = transfer[f"pred_{target}"] == transfer.label
    return right.groupby(transfer.idx).min().astype(float)


def queries_line(model: str, matrix: pd.DataFrame, suite: pd.DataFrame, masking: pd.DataFrame,
                 eps: float) -> dict:
    """Accuracy of a model under attacks that ask only for answers.

    transfer: images of the strongest other source; grey_box: of its own method with another seed;
    hop_skip: the change that HopSkipJump needs is larger than eps.
    """
    by_source = matrix.set_index("source")[model]
    square, few = suite["square_worst"].dropna(), masking.hop_skip_distance.dropna()
    return {"model": model, "transfer": by_source.drop(model).min(), "grey_box": by_source[model],
            "square": square.mean(), "square_images": suite.idx[square.index].nunique(),
            "hop_skip": (few > eps).mean(), "hop_skip_queries": masking.hop_skip_queries.mean(),
            "hop_skip_images": len(few)}


def textbook_line(rows: pd.DataFrame) -> list[dict]:
    """Accuracy or success of each textbook attack, median distortions, and how many were found.

    A success is the class aimed at, of an image that was right before.
    """
    right = rows.clean_pred == rows.label
    line = {"domain_accuracy": (rows.domain_pred == rows.label).mean(),
            "domain_linf": rows.domain_linf.mean()}
    for target in ("chosen", "least_likely"):
        for steps in ("one_step", "iterative"):
            reached = rows[f"{target}_{steps}_pred"] == rows[target]
            line[f"{target}_{steps}_success"] = reached[right].mean()
    for size in ("smallest_linf", "smallest_l2"):
        line[f"{size}_median"] = rows[size].median()
        line[f"{size}_reached"] = np.isfinite(rows[size]).mean()
    return [line]


def leaking_lines(rows: pd.DataFrame, eps: float) -> Iterator[dict]:
    """Clean and FGSM accuracy of each part of the images and each eps, and which is higher.

    eps: of the study; the columns are named by shares of it.
    """
    for part in ("train", "test"):
        images = rows[rows.part == part]
        clean = (images.clean_pred == images.label).mean()
        for column in rows.filter(regex="^fgsm_"):
            factor = float(column.removeprefix("fgsm_").removesuffix("_pred"))
            fgsm = (images[column] == images.label).mean()
            yield {"part": part, "eps": factor * eps, "clean": clean, "fgsm": fgsm,
                   "exceeds": fgsm > clean}


def ood_lines(rows: pd.DataFrame, sources: list[str]) -> Iterator[dict]:
    """AUC with which each score tells test images from each source: mean over seeds and spread."""
    for source in sources:
        both = rows[rows.source.isin(["test", source])]
        for score in SCORES:
            areas = []
            for _, part in both.groupby("seed"):
                areas.append(auc((part.source == source).to_numpy(), part[score].to_numpy()))
            yield {"source": source, "score": score} | spread_of(areas)


def retrieval_line(rows: pd.DataFrame) -> list[dict]:
    """k-NN accuracy and precision of clean and adversarial queries."""
    line = {}
    for kind in ("clean", "adv"):
        line[f"{kind}_knn_accuracy"] = (rows[f"{kind}_knn"] == rows.label).mean()
        line[f"{kind}_precision"] = rows[f"{kind}_precision"].mean()
    return [line | {"images": rows.idx.nunique(), "seeds": rows.seed.nunique()}]


def mismatch_line(rows: pd.DataFrame) -> list[dict]:
    """What queries retrieve before and after they are moved towards a target of another class.

    Distance to the target, precision, and the share whose neighbours are of the target's class;
    low and high, Wilson's over images, belong to the share of the moved ones.
    """
    line = {}
    for kind in ("clean", "moved"):
        line[f"{kind}_distance"] = rows[f"{kind}_distance"].mean()
        line[f"{kind}_precision"] = rows[f"{kind}_precision"].mean()
        line[f"{kind}_target"] = (rows[f"{kind}_knn"] == rows.target_label).mean()
    images = rows.idx.nunique()
    line["low"], line["high"] = wilson(line["moved_target"], images)
    return [line | {"images": images, "seeds": rows.seed.nunique()}]


def cost_table(rows: Rows) -> pd.DataFrame:
    """Images sent forward and backward per training image, and both together as a share of AT's."""
    lines = []
    for model, part in rows.items():
        images = part.images.sum()
        lines.append({"model": model, "forward": part.forward.sum() / images,
                      "backward": part.backward.sum() / images})
    table = pd.DataFrame(lines)
    both = table.forward + table.backward
    return table.assign(of_at=both / both[table.model == "at"].item())
