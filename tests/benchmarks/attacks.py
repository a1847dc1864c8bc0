"""Our attack engine beside public ones on the same networks and images; `make bench`.

The unit: wall time / (steps x restarts x one float32 forward pass and input gradient of the same
images), that bare pass timed right before. A ratio of 1 is a plain loop that does nothing else.
Peers run in turn, round after round; a round has its own random numbers, the same for our variants.
Every time includes the judgement of what came out, by the float32 network.

Fewer runs, for time: a peer without our savings takes 20 times as long for PGD-2000 as for PGD-100,
so only the fastest of them runs it, on digits. On MNIST restarts see 64 images, and bfloat16 no
long runs. A step of 256 images of CIFAR-10 takes half a second: there the public peers see 32
images, and of ours the convention "worst" alone runs 2000 steps and restarts. The column `images`
says so.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import foolbox
import numpy as np
import pandas as pd
import torch
from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_pytorch import (
    ProjectedGradientDescentPyTorch,
)
from art.estimators.classification import PyTorchClassifier
from common import (
    CPU,
    IMAGES,
    Subject,
    bare_seconds,
    cifar10,
    digits,
    mnist,
    report,
    settle,
    spread,
    timed,
    verdict,
)
from pyautoattack.autopgd_base import APGDAttack
from torch import Tensor, nn

from tla.measure.engine import run_attack
from tla.measure.precision import search_of
from tla.params import Attack
from tla.train.chance import stream
from tla.train.pgd import cross_entropy, pgd_linf, random_start


def pgd(steps: int, restarts: int, rel_step_size: float) -> Attack:
    """PGD on cross-entropy from random starts."""
    return Attack("gradient", "cross_entropy", [steps], rel_step_size, True, restarts, "none", 0.0)


ATTACKS = {
    "PGD-20": pgd(20, 1, 1 / 10), "PGD-100": pgd(100, 1, 1 / 10), "PGD-2000": pgd(2000, 1, 1 / 10),
    "PGD-100 eps/30": pgd(100, 1, 1 / 30), "PGD-2000 eps/30": pgd(2000, 1, 1 / 30),
    "20 x PGD-20": pgd(20, 20, 1 / 10)}

Peer = Callable[[Subject, Attack, int], Tensor]     # images, attack, seed -> correct, [n] bool


@dataclass(frozen=True)
class Ours:
    """The engine under a convention; `search` is the precision that most steps are taken in."""

    convention: str
    search: str

    def __str__(self) -> str:
        return f"ours {self.convention} {self.search}"

    def __call__(self, subject: Subject, attack: Attack, seed: int) -> Tensor:
        precision = replace(subject.precision, search=self.search)
        result = run_attack(subject.logits, subject.x, subject.y, attack, eps=subject.eps,
                            convention=self.convention, generator=stream(seed, "evaluation", CPU),
                            search=search_of(subject.network, precision))
        return getattr(result, self.convention)[-1]


class LogitsOnly(nn.Module):
    """Other libraries expect a module that returns logits alone."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[0]


def judged(subject: Subject, x_adv: Tensor) -> Tensor:
    """Who is classified correctly, [n]."""
    with torch.no_grad():
        return subject.logits(x_adv).argmax(1) == subject.y


def plain_loop(subject: Subject, attack: Attack, seed: int) -> Tensor:
    """The loop that trains our models: every example to the last step."""
    start = random_start(subject.x, subject.eps, stream(seed, "evaluation", CPU))
    x_adv = pgd_linf(subject.logits, subject.x, subject.y, eps=subject.eps,
                     step_size=attack.rel_step_size * subject.eps, steps=attack.steps[-1],
                     loss=cross_entropy, start=start)
    return judged(subject, x_adv)


def with_torchattacks(subject: Subject, attack: Attack, seed: int) -> Tensor:
    """PGD; restarts by MultiAttack, which leaves out the broken."""
    import torchattacks  # installed by make bench alone
    torch.manual_seed(seed)
    one = torchattacks.PGD(LogitsOnly(subject.network).eval(), eps=subject.eps,
                           alpha=attack.rel_step_size * subject.eps, steps=attack.steps[-1])
    if attack.restarts > 1:
        one = torchattacks.MultiAttack([one] * attack.restarts)
    return judged(subject, one(subject.x, subject.y))


def with_foolbox(subject: Subject, attack: Attack, seed: int) -> Tensor:
    """LinfPGD; restarts by repeat, which attacks every example each time."""
    torch.manual_seed(seed)
    model = foolbox.PyTorchModel(LogitsOnly(subject.network).eval(), bounds=(0, 1), device=CPU)
    one = foolbox.attacks.LinfPGD(rel_stepsize=attack.rel_step_size, steps=attack.steps[-1])
    if attack.restarts > 1:
        one = one.repeat(attack.restarts)
    return judged(subject, one(model, subject.x, subject.y, epsilons=subject.eps)[1])


def with_art(subject: Subject, attack: Attack, seed: int) -> Tensor:
    """ProjectedGradientDescentPyTorch on one batch; restarts attack every example each time."""
    np.random.seed(seed)
    classifier = PyTorchClassifier(
        LogitsOnly(subject.network).eval(), nn.CrossEntropyLoss(), tuple(subject.x.shape[1:]),
        subject.network.head.out_features, clip_values=(0, 1), device_type="cpu")
    one = ProjectedGradientDescentPyTorch(
        classifier, norm="inf", eps=subject.eps, eps_step=attack.rel_step_size * subject.eps,
        max_iter=attack.steps[-1], num_random_init=attack.restarts, batch_size=len(subject.x),
        verbose=False)
    return judged(subject, torch.from_numpy(one.generate(subject.x.numpy(), subject.y.numpy())))


def with_apgd(subject: Subject, attack: Attack, seed: int) -> Tensor:
    """AutoAttack's APGD-CE, whose steps have a size of their own; the broken are left out."""
    one = APGDAttack(subject.logits, n_iter=attack.steps[-1], norm="Linf", eps=subject.eps,
                     n_restarts=attack.restarts, seed=seed, loss="ce", device=CPU)
    return judged(subject, one.perturb(subject.x, subject.y))


def variants(*peers: Ours) -> dict[str, Peer]:
    """Peers by name."""
    return {str(peer): peer for peer in peers}


FLOAT32 = variants(Ours("worst", "float32"), Ours("last", "float32"))
BFLOAT16 = variants(Ours("worst", "bfloat16"), Ours("last", "bfloat16"))
WORST = variants(Ours("worst", "float32"), Ours("worst", "bfloat16"))
OURS = FLOAT32 | BFLOAT16
PUBLIC = {"torchattacks": with_torchattacks, "foolbox": with_foolbox, "ART": with_art,
          "APGD-CE": with_apgd}
PLAIN = {"plain loop": plain_loop}


@dataclass(frozen=True)
class Heat:
    """An attack that peers run in turn on the first so many images, in the first so many rounds."""

    attack: str
    images: int
    rounds: int
    peers: dict[str, Peer]


HEATS = {
    "digits": [
        Heat("PGD-100", 256, 7, OURS | PLAIN | PUBLIC),
        Heat("PGD-2000", 256, 3, OURS | PLAIN | {"torchattacks": with_torchattacks}),
        Heat("20 x PGD-20", 256, 3, OURS | PUBLIC),
        Heat("PGD-100 eps/30", 256, 5, FLOAT32), Heat("PGD-2000 eps/30", 256, 5, FLOAT32)],
    "mnist": [
        Heat("PGD-100", 256, 3, OURS | PLAIN | PUBLIC), Heat("PGD-2000", 256, 3, FLOAT32),
        Heat("20 x PGD-20", 64, 3, OURS | PUBLIC),
        Heat("PGD-100 eps/30", 256, 3, FLOAT32), Heat("PGD-2000 eps/30", 256, 3, FLOAT32)],
    "cifar10": [
        Heat("PGD-20", 256, 1, WORST), Heat("PGD-100", 256, 2, FLOAT32),
        Heat("PGD-100", 32, 2, WORST | PLAIN | PUBLIC),
        Heat("PGD-2000", 32, 1, variants(Ours("worst", "float32"))),
        Heat("20 x PGD-20", 32, 1, variants(Ours("worst", "float32")))],
}
# Of our bookkeeping: images, steps, pairs of runs.
STEADY = {"digits": (256, 100, 21), "mnist": (256, 50, 9), "cifar10": (32, 20, 7)}

TIME = {"digits": 0.95, "mnist": 0.75, "cifar10": 0.5}  # of PGD-100 on 256 images
LONGER = {"PGD-2000": 1.1, "PGD-2000 eps/30": 1.4}      # times as long as the hundred steps
BOOKKEEPING = 1.03                                      # times as long as the plain loop
POINTS = 0.3                                            # of robust accuracy between precisions
COLUMNS = ["measure", "network", "attack", "peer", "images", "rounds", "value", "low", "high",
           "seconds", "robust_accuracy", "limit", "verdict"]


def race(subject: Subject, heats: list[Heat]) -> pd.DataFrame:
    """One line for each run of a peer: how long it took, in bare passes, and who survived it."""
    runs = []
    for seed in range(max(heat.rounds for heat in heats)):
        for heat in heats:
            if seed >= heat.rounds:
                continue
            part = subject.first(heat.images)
            for name, peer in heat.peers.items():
                runs.append(one_run(part, heat.attack, name, peer, seed))
    return pd.DataFrame(runs)


def one_run(subject: Subject, attack: str, name: str, peer: Peer, seed: int) -> dict:
    """Seconds, the same in bare passes, and robust accuracy in percent of one peer."""
    chosen = ATTACKS[attack]
    bare = bare_seconds(subject)
    taken, correct = timed(partial(peer, subject, chosen, seed))
    return {"network": subject.name, "attack": attack, "peer": name, "images": len(subject.x),
            "round": seed, "seconds": taken, "passes": taken / bare,
            "steps": chosen.steps[-1] * chosen.restarts,
            "robust": 100 * correct.double().mean().item()}


def fits(peer: str, subject: Subject) -> bool:
    """Whether limits are about a peer: our engine in the precision of the study."""
    return peer in OURS and OURS[peer].search == subject.precision.search


def times(runs: pd.DataFrame, subject: Subject) -> Iterator[dict]:
    """The unit of every peer on every attack."""
    for (attack, images, peer), part in runs.groupby(["attack", "images", "peer"], sort=False):
        limited = attack == "PGD-100" and images == IMAGES and fits(peer, subject)
        yield {"measure": "time a step", "attack": attack, "peer": peer, "images": images,
               "rounds": len(part), **spread(list(part.passes / part.steps)),
               "seconds": part.seconds.median(), "robust_accuracy": part.robust.mean(),
               "limit": TIME[subject.name] if limited else None}


def longer(runs: pd.DataFrame, subject: Subject) -> Iterator[dict]:
    """How many times as long as a hundred steps of a size two thousand take, in bare passes."""
    same = ["peer", "images", "round"]
    for attack, limit in LONGER.items():
        short = runs[runs.attack == attack.replace("2000", "100")]
        pairs = runs[runs.attack == attack].merge(short, on=same, suffixes=("", "_short"))
        for (peer, images), part in pairs.groupby(["peer", "images"], sort=False):
            if peer in OURS:
                yield {"measure": "2000 steps / 100 steps", "attack": attack, "peer": peer,
                       "images": images, "rounds": len(part),
                       **spread(list(part.passes / part.passes_short)),
                       "limit": limit if fits(peer, subject) else None}


def precisions(runs: pd.DataFrame) -> Iterator[dict]:
    """Robust accuracy found with bfloat16 minus that with float32, in points.

    The value is the mean over all attacks and rounds; low and high are those of single runs, where
    one image of 256 is 0.4 points.
    """
    ours = runs[runs.peer.isin(OURS)]
    ours = ours.assign(convention=[OURS[peer].convention for peer in ours.peer],
                       search=[OURS[peer].search for peer in ours.peer])
    same = ["attack", "images", "round", "convention"]
    pairs = ours[ours.search == "bfloat16"].merge(ours[ours.search == "float32"], on=same)
    points = pairs.robust_x - pairs.robust_y
    mean = np.average(points, weights=pairs.images)
    yield {"measure": "bfloat16 - float32, points", "attack": "all", "peer": "ours",
           "images": pairs.images.max(), "rounds": len(pairs), "value": mean,
           "low": points.min(), "high": points.max(), "limit": POINTS}


def bookkeeping(subject: Subject, images: int, steps: int, pairs: int) -> dict:
    """Time of the engine over that of the plain loop where no example is ever done early.

    The attack's step is a thousandth of eps: iterates keep drifting, so that none repeats, and
    under the convention "last" a misclassified example goes on. That is checked by counting the
    images that the network is asked about. Raises RuntimeError where one was done early.
    """
    part, attack = Counting(subject.first(images)), pgd(steps, 1, 1 / 1000)
    ratios = []
    for seed in range(pairs):
        plain, _ = timed(partial(plain_loop, part, attack, seed))
        part.asked = 0
        ours, _ = timed(partial(Ours("last", "float32"), part, attack, seed))
        if part.asked != images * (steps + 1):
            raise RuntimeError(f"{subject.name}: an example was done early")
        ratios.append(ours / plain)
    return {"measure": "ours / plain loop", "attack": f"PGD-{steps} eps/1000",
            "peer": "ours last float32", "images": images, "rounds": pairs, **spread(ratios),
            "limit": BOOKKEEPING}


class Counting:
    """A subject that counts the images that its network is asked about."""

    def __init__(self, subject: Subject):
        self.__dict__.update(vars(subject))
        self.subject, self.asked = subject, 0

    def logits(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        return self.subject.logits(x)


def warm_up(subject: Subject) -> None:
    """Everything is loaded and allocated before the first timing."""
    for peer in (OURS | PLAIN | PUBLIC).values():
        peer(subject.first(4), pgd(2, 1, 1 / 10), 0)


def measured(subject: Subject) -> pd.DataFrame:
    """All lines of one network."""
    warm_up(subject)
    runs = race(subject, HEATS[subject.name])
    lines = [*times(runs, subject), *longer(runs, subject), *precisions(runs),
             bookkeeping(subject, *STEADY[subject.name])]
    return tabulated(subject.name, lines)


def tabulated(network: str, lines: list[dict]) -> pd.DataFrame:
    """Lines with their network and verdict."""
    table = pd.DataFrame(lines, columns=COLUMNS)
    table["network"] = network
    for column in ("seconds", "robust_accuracy", "limit"):
        table[column] = table[column].astype(float)
    table["verdict"] = [verdict(abs(value), limit)
                        for value, limit in zip(table.value, table.limit, strict=True)]
    return table


def main() -> None:
    settle()
    report("attacks", pd.concat([measured(load()) for load in (digits, mnist, cifar10)]))


if __name__ == "__main__":
    main()
