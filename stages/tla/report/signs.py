"""Signs of gradient masking, one number each (Athalye et al. 2018; Carlini et al. 2019)."""

import math
from itertools import pairwise

import pandas as pd

# What each sign means when it exceeds the tolerance; all are differences or shares of accuracy.
SIGNS = {
    "rise": "accuracy rises with eps",
    "unbounded": "accuracy is left at eps = 1, from the image itself",
    "transfer": "images made on another network break more than its own",
    "square": "Square breaks more than one run of PGD",
    "restarts": "restarts break more than one run of PGD",
    "cw": "the C&W loss breaks more than one run of PGD",
    "zero_gradient": "images have no gradient at all",
    "autoattack": "AutoAttack breaks more than the white-box union"}


def exceeds(value: float, tolerance: float) -> bool:
    """Whether a sign is flagged: above the tolerance, or not measured on any image.

    A difference of shares that equals the tolerance is not above it by an error of floating point.
    """
    if math.isnan(value):
        return True
    return value > tolerance and not math.isclose(value, tolerance, rel_tol=1e-9)


def masking_line(suite: pd.DataFrame, masking: pd.DataFrame, transfer: pd.Series, pgd: str,
                 tolerance: float) -> dict[str, float | bool]:
    """One model's numbers, and True under flag_<sign> where one exceeds the tolerance.

    suite: rows indexed by image, and by seed where there are several; masking: rows of the seed
    that it was measured on; transfer: indexed as `suite`, 1 where it is right on what every model
    made of an image; pgd: outcome of the longest run.
    """
    found = signs(suite, masking, transfer, pgd)
    flags = {f"flag_{name}": exceeds(value, tolerance) for name, value in found.items()}
    return found | {"zero_pixels": masking.zero_gradient.mean()} | flags


def signs(suite: pd.DataFrame, masking: pd.DataFrame, transfer: pd.Series,
          pgd: str) -> dict[str, float]:
    """How far each of SIGNS goes for one model, positive where it speaks for masking."""
    curve = list(masking.filter(regex=r"^eps_").mean())
    rises = [after - before for before, after in pairwise(curve)]
    own = suite[pgd]
    return {"rise": max(rises), "unbounded": curve[-1], "transfer": ahead(own, transfer),
            "square": ahead(own, suite["square_worst"]),
            "restarts": ahead(own, suite["pgd-restarts_worst"]),
            "cw": ahead(own, suite["cw_worst"]),
            "zero_gradient": float((masking.zero_gradient == 1).mean()),
            "autoattack": ahead(suite["white-box"], suite["autoattack_worst"])}


def ahead(own: pd.Series, other: pd.Series) -> float:
    """Accuracy under the first attack minus that under the other, on the images that both saw."""
    both = pd.concat([own, other], axis=1, join="inner").dropna()
    return float((both.iloc[:, 0] - both.iloc[:, 1]).mean())
