"""Signs of gradient masking, one number each (Athalye et al. 2018; Carlini et al. 2019). Imports no torch."""

import pandas as pd

# What each sign means when it exceeds the tolerance; all are differences or shares of accuracy.
SIGNS = {
    "rise": "accuracy rises with eps", "unbounded": "accuracy is left at eps = 1, from the image itself",
    "transfer": "images made on another network break more than its own", "square": "Square breaks more than PGD",
    "restarts": "restarts break more than one long run", "cw": "the C&W loss breaks more than cross-entropy",
    "zero_gradient": "images have no gradient at all", "autoattack": "AutoAttack breaks more than the union of ours"}


def signs(correct: pd.DataFrame, pgd: str, curve: list[float], zero: float,
          others: dict[str, pd.Series]) -> dict[str, float]:
    """How far each of SIGNS goes for one model, positive where it speaks for masking.

    correct: outcomes of the white-box suite by image, among them the column `pgd` of the longest run.
    others: outcomes by image of transfer, square and autoattack. A pair is compared on the images both have.
    """
    def gain(column: str, other: pd.Series) -> float:
        both = pd.concat([correct[column], other], axis=1, join="inner").dropna()
        return float((both.iloc[:, 0] - both.iloc[:, 1]).mean())

    return {"rise": max(b - a for a, b in zip(curve, curve[1:], strict=False)), "unbounded": curve[-1],
            "transfer": gain(pgd, others["transfer"]), "square": gain(pgd, others["square"]),
            "restarts": gain(pgd, correct["pgd_restarts_worst"]), "cw": gain(pgd, correct["cw_worst"]),
            "zero_gradient": zero, "autoattack": gain("union_worst", others["autoattack"])}
