"""Hyper-parameter trials of a method: points of a Latin hypercube over the values that it tunes.

Every range is cut into as many strata as there are trials, equally wide in the logarithm, and each
stratum is tried once, at its centre. So methods with the same range of learning rates are tried at
the same learning rates.
"""

from functools import lru_cache

import numpy as np
from scipy.stats.qmc import LatinHypercube

from tla.params import Range, Tune


def trials(tune: Tune, method: str) -> list[dict[str, float | int | None]]:
    """Values by dotted key, one dictionary a trial; they are as short as params.yaml is to hold."""
    space = tune.space[method]
    if isinstance(space, list):
        return space
    found = []
    for place in places(tune.trials, len(space), tune.seed):
        values = map(value_at, space.values(), place)
        found.append(dict(zip(space, values, strict=True)))
    return found


def on_edge(tune: Tune, method: str, number: int) -> list[str]:
    """Keys of which a trial, counted from 0, has the first or the last stratum of their range.

    Of trials that are listed, none: nothing says where their range ends.
    """
    space = tune.space[method]
    if isinstance(space, list):
        return []
    outer = 1 / tune.trials     # where the first stratum ends
    places_of, found = places(tune.trials, len(space), tune.seed)[number], []
    for (key, axis), place in zip(space.items(), places_of, strict=True):
        if isinstance(axis, Range) and not outer < place < 1 - outer:
            found.append(key)
    return found


@lru_cache
def places(count: int, axes: int, seed: int) -> np.ndarray:
    """Where each of `count` trials lies on each axis, as a share of its length, [count, axes].

    A plain draw may confound two axes (correlation -0.87 in one of twelve trials); this one is
    made even by swaps.
    """
    drawn = LatinHypercube(axes, scramble=False, optimization="random-cd", rng=seed)
    return drawn.random(count)


def value_at(axis: Range | list, place: float) -> float | int | None:
    """What lies at this share of an axis: two significant digits of a range, or one of a list."""
    if isinstance(axis, list):
        return axis[int(place * len(axis))]
    return float(f"{axis.low * (axis.high / axis.low) ** place:.2g}")
