"""An independent check of adversarial images; shares no code with the attacks."""

import numpy as np

TOLERANCE = 1e-6    # float32 rounding of x + eps at pixel values up to 1 is below 1.2e-7


def check(x, x_adv, eps: float) -> np.ndarray:
    """Largest pixel change of each image, [n], in float64.

    x and x_adv are arrays or tensors [n, ...] with pixels in [0, 1]. Raises ValueError where x_adv
    has another shape, is not finite, leaves [0, 1] or differs from x by more than eps.
    """
    before, after = _pixels(x), _pixels(x_adv)
    if before.shape != after.shape:
        raise ValueError(f"adversarial images have shape {after.shape}, originals {before.shape}")
    if not np.isfinite(after).all():
        raise ValueError(f"{int((~np.isfinite(after)).sum())} adversarial pixels are not finite")
    if after.min(initial=0) < 0 or after.max(initial=1) > 1:
        raise ValueError(f"adversarial pixels leave [0, 1]: from {after.min()} to {after.max()}")
    change = np.abs(after - before).reshape(len(after), -1).max(1)
    if change.max(initial=0) > eps + TOLERANCE:
        raise ValueError(f"adversarial pixels changed by {change.max()}, more than eps = {eps}")
    return change


def _pixels(images) -> np.ndarray:
    if hasattr(images, "cpu"):
        images = images.cpu()
    return np.asarray(images, dtype=np.float64)
