"""Intervals and paired differences, on numpy and scipy."""

import numpy as np
from scipy.stats import binomtest


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson 95 % interval of a share observed on n images."""
    interval = binomtest(round(share * n), n).proportion_ci(0.95, "wilson")
    return interval.low, interval.high


def paired_difference(a: list[np.ndarray], b: list[np.ndarray], resamples: int, seed: int) -> dict:
    """Accuracy of a minus that of b, with a 95 % interval over test images and training seeds jointly.

    a[s][i], b[s][i] are 0/1 outcomes of the same image i under training seed s. The bootstrap draws
    seeds with replacement, and images with replacement within each drawn seed. Where seeds differ by
    no more than image noise the interval is up to sqrt(2) too wide: it errs towards "not resolved".
    Returns difference, low, high and the number of seeds on which a is ahead.
    """
    rng = np.random.default_rng(seed)
    shares = [np.array([np.mean(d == v) for v in (-1, 0, 1)])
              for d in (np.asarray(x, int) - np.asarray(y, int) for x, y in zip(a, b, strict=True))]
    sizes = [len(x) for x in a]
    drawn = rng.integers(len(a), size=(resamples, len(a)))
    # Resampling images of one seed is a multinomial draw of its outcomes -1, 0 and 1.
    draws = np.stack([rng.multinomial(n, p, size=(resamples, len(a))) @ [-1, 0, 1] / n
                      for n, p in zip(sizes, shares, strict=True)], axis=-1)
    means = np.take_along_axis(draws, drawn[..., None], axis=-1)[..., 0].mean(1)
    per_seed = np.array([p[2] - p[0] for p in shares])
    low, high = np.quantile(means, [0.025, 0.975])
    return {"difference": per_seed.mean(), "low": low, "high": high, "seeds_won": int((per_seed > 0).sum())}
