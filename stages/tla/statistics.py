"""Paired differences between models, with intervals over test images and training seeds jointly.

The variance of a mean difference has a part from the seeds and a part from the images; both are
estimated, and Student's t with Satterthwaite's degrees of freedom makes the interval. A percentile
bootstrap over both would be simpler, but with three to five seeds it covers 79 to 88 % instead of 95.
Means of few seeds can agree by luck; so no interval is narrower than the one for these very networks, over
images alone, and where seeds hardly matter it covers up to 99 %.
"""

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit
from scipy.stats import binomtest


def paired_difference(differences: list[np.ndarray], shared: bool) -> dict[str, float | int]:
    """Mean over seeds of a minus b, its 95 % interval and two-sided p, and the seeds on which a is ahead.

    differences[s][i] is outcome a minus outcome b, in {-1, 0, 1}, of image i under training seed s.
    `shared`: all seeds saw the same images in the same order (crossed); else each its own (nested), and the
    spread over seeds holds the noise of the images too. One seed gives an interval over images alone.
    """
    means, n, seeds = np.array([d.mean() for d in differences]), len(differences[0]), len(differences)
    each = sum(d.var(ddof=1) / len(d) for d in differences) / seeds**2
    fixed = _student(means, 0.0, np.stack(differences).mean(0).var(ddof=1) / n if shared else each, n)
    if seeds == 1:
        return fixed
    of_images = _image_variance(np.stack(differences)) if shared else 0.0
    return _wider(_student(means, means.var(ddof=1) / seeds, of_images, n), fixed)


def _image_variance(d: np.ndarray) -> float:
    """What the images add to the variance of the grand mean of d [seeds, n], beyond what the seeds' means show.

    Two-way random effects: the noise of single outcomes is in both margins and must not count twice.
    """
    seeds, n = d.shape
    residual = d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()
    noise = (residual**2).sum() / ((seeds - 1) * (n - 1))
    return max(d.mean(0).var(ddof=1) / n - noise / (seeds * n), 0.0)


def _wider(*found: dict) -> dict:
    """The wider of two intervals of one difference, and the larger p: the two need not be the same one's."""
    widest = max(found, key=lambda each: each["high"] - each["low"])
    return widest | {"p": max(each["p"] for each in found)}


def _student(means: np.ndarray, of_seeds: float, of_images: float, n: int) -> dict[str, float | int]:
    """Interval of the mean of `means` with Satterthwaite's degrees of freedom, and the seeds won."""
    variance = of_seeds + of_images
    freedom = variance**2 / (of_seeds**2 / max(len(means) - 1, 1) + of_images**2 / (n - 1)) if variance else 1
    return student(means.mean(), variance, freedom) | {"seeds_won": int((means > 0).sum())}


def student(difference: float, variance: float, freedom: float) -> dict[str, float]:
    """difference, low and high of its 95 % interval, and two-sided p by Student's t; variance is that of the mean."""
    error = np.sqrt(variance)
    half = stdtrit(freedom, 0.975) * error
    p = 2 * stdtr(freedom, -abs(difference) / error) if error else float(difference == 0)
    return {"difference": float(difference), "low": float(difference - half), "high": float(difference + half),
            "p": float(p)}


def auc_difference(a: list[tuple], b: list[tuple | None], shared: bool, resamples: int, seed: int) -> dict:
    """Mean over seeds of AUC a minus AUC b, as `paired_difference`; where b[s] is None, minus chance.

    a[s] = (abnormal [n], score [n]) of the same images for both models. The part of the images is a
    bootstrap over them; where seeds share images it holds some of what the spread over seeds already
    shows, so the interval is a little wide.
    """
    def gain(x: tuple, y: tuple | None, weights: np.ndarray) -> float:
        return weighted_auc(*x, weights) - (0.5 if y is None else weighted_auc(*y, weights))

    def draw() -> list[np.ndarray]:
        sizes = [len(x[0]) for x in (a[:1] if shared else a)]
        weights = [rng.multinomial(n, [1 / n] * n) for n in sizes]
        return weights * len(a) if shared else weights

    rng, n = np.random.default_rng(seed), len(a[0][0])
    means = np.array([gain(x, y, np.ones(len(x[0]))) for x, y in zip(a, b, strict=True)])
    of_seeds = means.var(ddof=1) / len(means) if len(means) > 1 else 0.0
    drawn = [np.mean([gain(*case) for case in zip(a, b, draw(), strict=True)]) for _ in range(resamples)]
    of_images = np.var(drawn, ddof=1)
    if shared:
        return _student(means, of_seeds, of_images, n)
    return _wider(_student(means, of_seeds, 0.0, n), _student(means, 0.0, of_images, n))


def weighted_auc(abnormal: np.ndarray, score: np.ndarray, weights: np.ndarray) -> float:
    """Chance that an abnormal image scores lower than a normal one, ties counting half, images weighted."""
    values, place = np.unique(score, return_inverse=True)
    bad, good = (np.bincount(place, weights * kind, len(values)) for kind in (abnormal, ~abnormal))
    above = good.sum() - good.cumsum()
    return float((bad * (above + good / 2)).sum() / (bad.sum() * good.sum()))


def mcnemar(difference: np.ndarray) -> float:
    """Exact two-sided p of McNemar's test on one seed's differences in {-1, 0, 1}; 1 where none differ."""
    ahead, behind = int((difference > 0).sum()), int((difference < 0).sum())
    return float(binomtest(ahead, ahead + behind).pvalue) if ahead + behind else 1.0


def holm(p: list[float]) -> np.ndarray:
    """p values adjusted for their number (Holm 1979)."""
    p, order = np.asarray(p, float), np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    return np.minimum(adjusted, 1)[np.argsort(order)]


def significant(table: pd.DataFrame) -> pd.DataFrame:
    """Its p values as text of three significant digits: the four places of a table would make small ones 0."""
    found = table.filter(regex=r"^(mcnemar_)?p(_holm)?$")
    return table.assign(**{name: column.map("{:.3g}".format, na_action="ignore") for name, column in found.items()})
