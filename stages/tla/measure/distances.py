"""How far adversarial images are from their originals in L2 and L0; shares no code with attacks."""

import numpy as np

from tla.measure.referee import check

TOLERANCE = 1e-5    # float32 rounding of a change of norm up to 3 over 12,288 pixels is below 1e-5


def l2_distance(x, x_adv) -> np.ndarray:
    """L2 norm of the change of each image, [n], in float64.

    x and x_adv are arrays or tensors [n, c, h, w]. Raises ValueError as `referee.check` does where
    x_adv has another shape, is not finite or leaves [0, 1].
    """
    return np.sqrt((_change(x, x_adv) ** 2).sum((1, 2, 3)))


def l0_distance(x, x_adv) -> np.ndarray:
    """Pixels that differ at all, in any channel, of each image, [n]; otherwise as `l2_distance`."""
    return (_change(x, x_adv) != 0).any(1).sum((1, 2)).astype(float)


def _change(x, x_adv) -> np.ndarray:
    check(x, x_adv, 1.0)    # no pixel can change by more
    return np.asarray(x_adv.cpu(), dtype=np.float64) - np.asarray(x.cpu(), dtype=np.float64)
