"""AutoAttack (Croce and Hein 2020) by its official package, attack by attack."""

import logging

import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from tla.core.data import Split
from tla.referee import check
from tla.rows import key

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")      # the standard version
CHECKS = {"random": "randomized defense", "probabilities": "probability distribution", "dynamic": "dynamic defense"}


class _Complaints(logging.Handler):
    """Which of the package's checks of a model gave a warning."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.found = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.found |= {name for name, words in CHECKS.items() if words in record.getMessage()}


def autoattack_columns(model: nn.Module, split: Split, *, eps: float, batch: int, seed: int) -> dict[str, Tensor]:
    """idx, label, clean_pred, linf, check_<name>, and <attack>_robust: 1 where still correct after it; each [n].

    The attacks run in turn on the images that are left, in batches of `batch`.
    """
    suite = AutoAttack(lambda x: model(x)[0], norm="Linf", eps=eps, seed=seed, device=split.x.device)
    suite.logger.addHandler(complaints := _Complaints())
    with torch.no_grad():
        prediction = torch.cat([model(x)[0].argmax(1) for x in split.x.split(batch)])
    columns = {"idx": split.idx, "label": split.y, "clean_pred": prediction}
    robust, x_adv = prediction == split.y, split.x.clone()
    for name in ATTACKS:
        suite.attacks_to_run = [name]
        if len(left := robust.nonzero().squeeze(1)):
            x_adv[left], found = suite.run_standard_evaluation(split.x[left], split.y[left], batch_size=batch)
            robust[left] = found == split.y[left]
        columns[f"{key(name)}_robust"] = robust.byte()
    suite.logger.removeHandler(complaints)
    columns["linf"] = torch.from_numpy(check(split.x, x_adv, eps)).float()
    return columns | {f"check_{name}": torch.full_like(robust, name in complaints.found).byte() for name in CHECKS}
