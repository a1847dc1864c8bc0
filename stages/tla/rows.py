"""From rows, one per test image, to accuracies. Imports no torch.

Two conventions, named in every column and metric: `worst` = correct at every step up to the budget, in
every restart (monotone, the headline); `last` = correct after the last step (the paper's).
"""

import numpy as np
import pandas as pd
from scipy.special import ndtri  # scipy.stats takes half a second to import, in every stage

from tla.params import Attack, UserError


def key(name: str) -> str:
    """An attack's name as it stands in columns and metrics: 'pgd-400' -> 'pgd_400'."""
    return name.replace("-", "_")


def readouts(attacks: dict[str, Attack]) -> dict[str, tuple[str, int]]:
    """Name of each budget that is read off: 'pgd-400' -> ('pgd', 2) where pgd lists several budgets."""
    names = [(f"{name}-{steps}" if len(attack.steps) > 1 else name, (name, i))
             for name, attack in attacks.items() for i, steps in enumerate(attack.steps)]
    if len(dict(names)) < len(names):
        raise UserError(f"evaluate.attacks: two attacks are read off under one name: {sorted(n for n, _ in names)}")
    return dict(names)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson 95 % interval of a share observed on n images (Wilson 1927)."""
    z = ndtri(0.975)
    centre, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)


def correct_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """What counts as correct per row, 1.0 or 0.0: clean, every readout under both conventions, their union.

    union_worst: correct on the clean image and at every step of every attack. Empty where an attack was
    not run on the image.
    """
    outcomes = [c for c in rows if c.endswith(("_worst", "_last"))]
    correct = rows[outcomes].astype(float)
    correct.insert(0, "clean", (rows.clean_pred == rows.label).astype(float))
    worst = ["clean", *(c for c in outcomes if c.endswith("_worst"))]
    correct["union_worst"] = correct[worst].min(axis=1, skipna=False)
    return correct


def accuracy_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per readout and convention: accuracy, Wilson 95 % interval over images, spread over seeds.

    `std` is the standard deviation over training seeds; `images` counts different test images.
    """
    correct, lines = correct_columns(rows), []
    for column in correct:
        per_image, per_seed = (correct[column].groupby(rows[by]).mean().dropna() for by in ("idx", "seed"))
        low, high = wilson(per_image.mean(), len(per_image))
        attack, _, convention = column.rpartition("_") if column != "clean" else ("clean", "", "none")
        lines.append({"attack": attack, "convention": convention, "accuracy": per_image.mean(), "low": low,
                      "high": high, "std": per_seed.std(ddof=1) if len(per_seed) > 1 else np.nan,
                      "images": len(per_image), "seeds": len(per_seed)})
    return pd.DataFrame(lines)


def accuracy_metrics(table: pd.DataFrame) -> dict[str, float | int]:
    """The accuracies of one model as flat metrics; robust_accuracy is that under the union."""
    named = {"clean_accuracy" if line.attack == "clean" else f"{line.attack}_accuracy_{line.convention}":
             float(line.accuracy) for line in table.itertuples()}
    return named | {"robust_accuracy": named["union_accuracy_worst"],
                    "images": int(table.images.max()), "seeds": int(table.seeds[0])}
