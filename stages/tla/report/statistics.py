"""Intervals of accuracies and of paired differences, over test images and training seeds jointly.

The variance of a mean difference has a part from the seeds and a part from the images; both are
estimated, and Student's t with Satterthwaite's degrees of freedom makes the interval. A percentile
bootstrap over both would be simpler, but with three to five seeds it covers 79 to 88 %, not 95.
Means of few seeds can agree by luck; so no interval is narrower than the one for these very
networks, over images alone, and where seeds hardly matter it covers up to 99 %.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

TIE = 1e-9      # a mean of images below it is none: a sum of fractions misses zero by less


class Case(NamedTuple):
    """The scores of one training seed, which of them are abnormal, and of which image each is."""
    abnormal: np.ndarray    # [k] bool
    score: np.ndarray       # [k]
    image: np.ndarray       # [k], positions among the images of that seed


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson 95 % interval of a share observed on n images (Wilson 1927)."""
    z = ndtri(0.975)
    centre = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)


def paired_difference(differences: list[np.ndarray], shared: bool) -> dict[str, float | int]:
    """Mean over seeds of a minus b, its 95 % interval, two-sided p, and the seeds where a is ahead.

    differences[s][i] is outcome a minus outcome b, in [-1, 1], of image i under training seed s.
    `shared`: all seeds saw the same images in the same order (crossed); else each its own (nested),
    and the spread over seeds holds the noise of the images too. One seed gives an interval over
    images alone.
    """
    seeds, n = len(differences), len(differences[0])
    means = np.array([d.mean() for d in differences])
    if shared:
        of_images = np.stack(differences).mean(0).var(ddof=1) / n
    else:
        of_images = sum(d.var(ddof=1) / len(d) for d in differences) / seeds**2
    fixed = _student(means, 0.0, of_images, n)
    if seeds == 1:
        return fixed
    beyond = _image_variance(np.stack(differences)) if shared else 0.0
    return _wider(_student(means, means.var(ddof=1) / seeds, beyond, n), fixed)


def _image_variance(d: np.ndarray) -> float:
    """What images add to the variance of the grand mean of d [seeds, n] beyond the seeds' means.

    Two-way random effects: the noise of single outcomes is in both margins, but counts once.
    """
    seeds, n = d.shape
    residual = d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()
    noise = (residual**2).sum() / ((seeds - 1) * (n - 1))
    return max(d.mean(0).var(ddof=1) / n - noise / (seeds * n), 0.0)


def _wider(a: dict, b: dict) -> dict:
    """The wider of two intervals of one difference, and the larger p, maybe the other one's.

    A test with the larger standard error and the fewer degrees of freedom is as cautious as both.
    """
    widest = a if a["high"] - a["low"] >= b["high"] - b["low"] else b
    return widest | {"p": max(a["p"], b["p"]),
                     "standard_error": max(a["standard_error"], b["standard_error"]),
                     "degrees_of_freedom": min(a["degrees_of_freedom"], b["degrees_of_freedom"])}


def _student(means: np.ndarray, of_seeds: float, of_images: float, n: int) -> dict:
    """Interval of the mean of `means`, Satterthwaite's degrees of freedom, and the seeds won."""
    variance, freedom = of_seeds + of_images, 1
    if variance:
        weight = of_seeds**2 / max(len(means) - 1, 1) + of_images**2 / (n - 1)
        freedom = variance**2 / weight
    won = int((means > TIE).sum())
    return student(means.mean(), variance, freedom) | {"seeds_won": won}


def student(difference: float, variance: float, freedom: float) -> dict[str, float]:
    """difference, low and high of its 95 % interval, two-sided p by Student's t, and their parts.

    variance: that of the mean difference. Without any, p is 0, or 1 where the difference is 0.
    """
    error = np.sqrt(variance)
    half = stdtrit(freedom, 0.975) * error
    p = 2 * stdtr(freedom, -abs(difference) / error) if error else float(difference == 0)
    return {"difference": float(difference), "low": float(difference - half),
            "high": float(difference + half), "p": float(p), "standard_error": float(error),
            "degrees_of_freedom": float(freedom)}


def half_width(standard_error: np.ndarray, degrees_of_freedom: np.ndarray,
               level: np.ndarray) -> np.ndarray:
    """What estimates have to exceed, to either side, for their two-sided p to be below `level`."""
    return stdtrit(degrees_of_freedom, 1 - level / 2) * standard_error


def margin_p(difference: float, margin: float, standard_error: float,
             degrees_of_freedom: float) -> float:
    """p of the true difference being on the side of a margin on which the estimate lies.

    Inside, it is the larger p of two one-sided tests, that the difference is above -margin and that
    it is below margin (Schuirmann 1987). Beyond, it is the two-sided p against the bound that was
    passed. One verdict at most can be wrong, so they share a level (Goeman et al. 2010).
    """
    beyond = abs(difference) - margin
    sides = 2 if beyond > 0 else 1
    if not standard_error:
        return float(beyond == 0)
    return float(sides * stdtr(degrees_of_freedom, -abs(beyond) / standard_error))


def auc_difference(a: list[Case], b: list[Case], shared: bool, resamples: int, seed: int) -> dict:
    """Mean over seeds of AUC a minus AUC b, as `paired_difference`.

    a[s] and b[s] are cases of the same images under training seed s. The part of the images is a
    bootstrap over them; where seeds share images it holds some of what the spread over seeds
    already shows, so the interval is a little wide.
    """
    rng, images = np.random.default_rng(seed), _images(a, b)
    if shared:
        images = [max(images)] * len(images)
    means = _gains(a, b, [np.ones(n) for n in images])
    of_seeds = means.var(ddof=1) / len(means) if len(means) > 1 else 0.0
    drawn = [_resampled(rng, images, shared) for _ in range(resamples)]
    of_seed = [np.stack([weights[place] for weights in drawn]) for place in range(len(a))]
    of_images = np.var(_gains(a, b, of_seed).mean(0), ddof=1)
    if shared:
        return _student(means, of_seeds, of_images, images[0])
    return _wider(_student(means, of_seeds, 0.0, images[0]),
                  _student(means, 0.0, of_images, images[0]))


def _images(a: list[Case], b: list[Case]) -> list[int]:
    """Of each seed how many images there are, up to the last that has a score in either case."""
    return [1 + max(case_a.image.max(), case_b.image.max())
            for case_a, case_b in zip(a, b, strict=True)]


def _gains(a: list[Case], b: list[Case], weights: list[np.ndarray]) -> np.ndarray:
    """AUC a minus AUC b of each seed, [seeds, ...]; weights of a seed's images are [..., n]."""
    gains = []
    for case_a, case_b, weight in zip(a, b, weights, strict=True):
        gains.append(_area(case_a, weight) - _area(case_b, weight))
    return np.array(gains)


def _area(case: Case, weight: np.ndarray) -> np.ndarray:
    return weighted_auc(case.abnormal, case.score, weight[..., case.image])


def _resampled(rng: np.random.Generator, images: list[int], shared: bool) -> list[np.ndarray]:
    """How often each image of each seed is drawn; shared images are drawn once for all seeds."""
    weights = []
    for n in images[:1] if shared else images:
        weights.append(rng.multinomial(n, [1 / n] * n))
    return weights * len(images) if shared else weights


def weighted_auc(abnormal: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Chance that an abnormal image scores lower than a normal one; ties count half.

    weights [..., k] of the scores, one area for each row of them.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.nan) != 0)   # first of equal scores

    def at_each_score(kind: np.ndarray) -> np.ndarray:
        return np.add.reduceat((weights * kind)[..., order], starts, axis=-1)

    bad, good = at_each_score(abnormal), at_each_score(~abnormal)
    above = good.sum(-1, keepdims=True) - good.cumsum(-1)
    with np.errstate(invalid="ignore"):     # without images of a kind it is NaN
        return (bad * (above + good / 2)).sum(-1) / (bad.sum(-1) * good.sum(-1))


def holm(p: list[float]) -> np.ndarray:
    """p values adjusted for their number (Holm 1979)."""
    p, order = np.asarray(p, float), np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    return np.minimum(adjusted, 1)[np.argsort(order)]
