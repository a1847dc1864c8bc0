"""AutoAttack (Croce and Hein 2020) by its official package, attack by attack."""

import logging

import torch
from torch import nn

from tla.measure.answers import Columns, predict, returned
from tla.measure.draws import Stochastic, foremost
from tla.outcomes import Outcome
from tla.params import AutoAttack
from tla.train.chance import stream
from tla.train.data import Split

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")      # the standard version
RANDOM = ("apgd-ce", "apgd-dlr")                        # the version for stochastic networks
# Words of the package's warnings about a model. It also warns where Square lowers the accuracy that
# the others left, but only if it runs all four in one call: `complaint_square` is found here.
WARNINGS = {"random": "randomized defense", "probabilities": "probability distribution",
            "dynamic": "dynamic defense"}


class _Complaints(logging.Handler):
    """Which of the package's checks of a model gave a warning."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.found = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        self.found |= {name for name, words in WARNINGS.items() if words in message}


def autoattack_columns(model: nn.Module, split: Split, name: str, attack: AutoAttack, *,
                       eps: float, batch: int, seed: int) -> Columns:
    """Outcome of AutoAttack on every image, each column [n].

    <name>_linf and <name>_pred as of other attacks; <name>_<attack>_worst: 1 where still correct
    after that one of its attacks and those before, <name>_worst: after all; complaint_<check>: 1
    everywhere where the check complained of the model. The attacks run in turn on the images that
    are left, `attack.batch` at a time. A stochastic network gets the package's version for such.
    """
    from pyautoattack import AutoAttack as Package
    from pyautoattack import checks
    for called in checks.funcs:     # the package counts on from one model to the next
        checks.funcs[called] = 0
    if isinstance(model, Stochastic):
        return _random_columns(model, split, name, attack, eps, batch, seed)
    package = Package(lambda x: model(x)[0], norm="Linf", eps=eps, seed=seed,
                      device=split.x.device)
    correct, x_adv = predict(model, split.x, batch) == split.y, split.x.clone()
    columns = {}
    package.logger.addHandler(complaints := _Complaints())
    for one in ATTACKS:
        if len(left := correct.nonzero().squeeze(1)):
            package.attacks_to_run = [one]
            x_adv[left], found = package.run_standard_evaluation(
                split.x[left], split.y[left], batch_size=attack.batch)
            correct[left] = found == split.y[left]
        if one == "square" and correct.sum() < len(left):
            complaints.found.add("square")
        budget = one if one != ATTACKS[-1] else None
        columns[str(Outcome(name, budget, "worst"))] = correct.byte()
    package.logger.removeHandler(complaints)
    return returned(model, split.x, x_adv, name, eps, batch) | columns | _raised(split, complaints)


def _random_columns(model: Stochastic, split: Split, name: str, attack: AutoAttack, eps: float,
                    batch: int, seed: int) -> Columns:
    """Version `rand`: APGD on cross-entropy, then on DLR, its gradients means over draws.

    Every answer that it gets is a fresh draw, its gradients are means over as many as the model's
    bank has. The package calls an image broken when one draw at one step was wrong; here outcomes
    are shares of other draws at what it returned, of the image itself where it returned none.
    """
    from pyautoattack import AutoAttack as Package
    generator = stream(seed, "queries", split.x.device)
    package = Package(lambda x: model.network.draw(x, generator)[0], norm="Linf", eps=eps,
                      seed=seed, device=split.x.device, version="rand")
    package.apgd.eot_iter = len(model.bank)
    x_adv, columns = split.x, {}
    package.logger.addHandler(complaints := _Complaints())
    for one in RANDOM:
        package.attacks_to_run = [one]
        found, _ = package.run_standard_evaluation(split.x, split.y, batch_size=attack.batch)
        x_adv = foremost(model, split.y, [x_adv, found])
        budget = one if one != RANDOM[-1] else None
        columns[str(Outcome(name, budget, "worst"))] = model.shares(x_adv, split.y)
    package.logger.removeHandler(complaints)
    return returned(model, split.x, x_adv, name, eps, batch) | columns | _raised(split, complaints)


def _raised(split: Split, complaints: _Complaints) -> Columns:
    """complaint_<check>, the same at every image."""
    columns = {}
    for complaint in (*WARNINGS, "square"):
        columns[f"complaint_{complaint}"] = torch.full_like(
            split.y, complaint in complaints.found, dtype=torch.uint8)
    return columns
