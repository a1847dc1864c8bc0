"""Networks that answer by chance and announce it: what attacks ask of them, and who judges.

A prediction is one draw, accuracy the mean over draws. Attacks follow the expected answer over a
fixed bank of draws, so their gradients are means over draws (EOT, Athalye et al. 2018); what they
return is judged by fresh draws that they never saw.
"""

import torch
from torch import Tensor, nn

from tla.measure.answers import Columns, returned
from tla.measure.ascent import Ascent, Ball
from tla.measure.engine import objective
from tla.outcomes import Outcome
from tla.params import Attack, Draws
from tla.train.bottleneck import normal
from tla.train.chance import stream, stream_seed
from tla.train.pgd import margin, random_start


class Stochastic(nn.Module):
    """A network that announces itself as `stochastic`, with a bank of draws of its own.

    The bank is neither that of its training nor the noise that judges. Asked again it answers the
    same, so every attack that was made for other networks attacks the expected answer.
    """

    def __init__(self, network: nn.Module, draws: Draws, seed: int):
        super().__init__()
        self.network, self.head = network, network.head
        self.judges, self.seed = draws.judge, stream_seed(seed, "evaluation", 1)
        weight = network.head.weight
        noise = weight.new_empty(draws.attack, network.head.in_features)
        self.bank = normal(noise, stream(seed, "evaluation", weight.device, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log of the mean probabilities over the bank, [n, classes], and mean embedding, [n, d]."""
        return self.network.expected(x, self.bank)

    @torch.no_grad()
    def shares(self, x: Tensor, y: Tensor) -> Tensor:
        """Share of fresh draws that classify images x as y, [n] in float64.

        Each image has noise of its own, in every call the same for as many images. Raises
        ValueError for logits that are not finite.
        """
        generator = torch.Generator(x.device).manual_seed(self.seed)
        mean, scale = self.network.encode(x)
        right = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for _ in range(self.judges):
            logits = self.network.decode(mean, scale, normal(mean, generator))
            if not logits.isfinite().all():
                raise ValueError("a draw of the model returned logits that are not finite")
            right += logits.argmax(1) == y
        return right / self.judges


def announced(network: nn.Module, draws: Draws, seed: int) -> nn.Module:
    """A network as it is measured: itself, or Stochastic where it announces that it is."""
    if getattr(network, "stochastic", False):
        return Stochastic(network, draws, seed)
    return network


def right(model: nn.Module, x: Tensor, y: Tensor, prediction: Tensor) -> Tensor:
    """1 where the prediction is y, [n]; of a stochastic network the share of draws that are y."""
    if isinstance(model, Stochastic):
        return model.shares(x, y)
    return (prediction == y).byte()


def expected_columns(model: Stochastic, x: Tensor, y: Tensor, name: str, attack: Attack, eps: float,
                     generator: torch.Generator) -> Columns:
    """The columns of `suite.attack_columns`, of a stochastic network: outcomes are shares of draws.

    `last` is judged at the last iterate of a restart, `worst` at any iterate; the attack chooses
    the restart and the iterate with its own bank, and every budget is a run from the same starts.
    """
    state, outcomes = generator.get_state(), {}
    for steps in attack.steps:
        generator.set_state(state)
        last, worst = strongest(model, x, y, attack, steps, eps, generator)
        budget = str(steps) if len(attack.steps) > 1 else None
        outcomes[str(Outcome(name, budget, "last"))] = model.shares(last, y)
        outcomes[str(Outcome(name, budget, "worst"))] = model.shares(worst, y)
    return returned(model, x, worst, name, eps, len(x)) | outcomes


def strongest(model: nn.Module, x: Tensor, y: Tensor, attack: Attack, steps: int, eps: float,
              generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Of an attack's restarts the last iterate, and of all its iterates, of the largest margin."""
    def logits_fn(images):
        return model(images)[0]

    loss, labels = objective(logits_fn, x, y, attack.loss)
    ball, last, worst = Ball(x, y, labels, eps), [], []
    for _ in range(attack.restarts):
        start = random_start(x, eps, generator) if attack.random_start else x
        run = Ascent(ball, start, torch.zeros_like(x), attack, [steps], stop_when_wrong=False,
                     searches=True).run(logits_fn, loss)
        last.append(run.final)
        worst.append(run.worst_x)
    return foremost(model, y, last), foremost(model, y, worst)


@torch.no_grad()
def foremost(model: nn.Module, y: Tensor, candidates: list[Tensor]) -> Tensor:
    """Of several versions of images [n, c, h, w], of each image that of the largest margin."""
    best = candidates[0]
    highest = margin(model(best)[0], y)
    for x in candidates[1:]:
        found = margin(model(x)[0], y)
        better = (found > highest).view(-1, *[1] * (x.ndim - 1))
        best, highest = torch.where(better, x, best), torch.maximum(found, highest)
    return best
