"""The training loop, one for all methods, and the rule that picks the checkpoint."""

import copy
import math
from collections import defaultdict
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tla.core.attacks import robust
from tla.core.chance import stream, stream_seed
from tla.core.data import TRAIN, VALIDATION, Dataset, augment
from tla.core.methods import LOSSES, Batch, adversarial_images
from tla.core.mining import Miner
from tla.core.models import Classifier, build
from tla.core.resume import Resume
from tla.params import ModelId, Params, Train, UserError


def make_optimizer(model: nn.Module, train: Train) -> torch.optim.Optimizer:
    """Adam or SGD; weight decay on kernels only, not on biases or batch norm (authors' config)."""
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": train.weight_decay},
              {"params": others, "weight_decay": 0.0}]
    if train.optimizer == "adam":
        return torch.optim.Adam(groups, lr=train.lr)
    return torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum)


def lr_factor(train: Train, step: int, steps: int) -> float:
    """Learning rate at `step` of `steps` as a share of its peak."""
    if train.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / steps))
    if train.schedule == "triangular":
        return min(2 * (step + 1) / steps, 2 * (steps - step) / steps, 1)
    if train.schedule == "piecewise":
        epoch = step * train.epochs / steps
        return 0.1 ** sum(epoch >= m for m in train.milestones)
    return 1.0


class Trainer:
    """Trains one model of one seed. `epoch()` runs one; `best` holds the weights chosen so far."""

    def __init__(self, params: Params, model: ModelId, seed: int, position: int, data: Dataset):
        self.params, self.model, self.seed = params, model, seed
        self.train, self.held = data.split(position, TRAIN), data.split(position, VALIDATION)
        device = self.train.x.device
        self.network = build(params.model, data.shape, data.classes, stream_seed(seed, "init")).to(device)
        self.optimizer = make_optimizer(self.network, params.train)
        self.streams = {name: stream(seed, name, device) for name in ("shuffle", "augment", "attack", "mining")}
        self.miner = Miner(self.train.x, self.train.y, model.batch, partial(self._augment, "mining"),
                           self.streams["mining"]) if model.batch else None
        self.steps_per_epoch = max(len(self.train.x) // params.train.batch, 1)
        self.epochs_done, self.log = 0, []
        self.best, self.best_score = None, (-1.0, -1.0)

    def epoch(self) -> None:
        """One pass over the training images; adds the epoch's row to the training log."""
        sums: dict[str, float] = defaultdict(float)
        order = torch.randperm(len(self.train.x), generator=self.streams["shuffle"], device=self.train.x.device)
        for step in range(self.steps_per_epoch):
            rows = order[step * self.params.train.batch: (step + 1) * self.params.train.batch]
            for key, value in self._step(rows, step).items():
                sums[key] += value
        self.epochs_done += 1
        row = {"seed": self.seed, "epoch": self.epochs_done} | {k: v / self.steps_per_epoch for k, v in sums.items()}
        last = self.epochs_done == self.params.train.epochs
        if last or self.epochs_done % self.params.train.validate_every == 0:
            row |= self._validate()
        self.log.append(row)

    def _step(self, rows: Tensor, step: int) -> dict[str, float]:
        train, done = self.params.train, self.epochs_done * self.steps_per_epoch + step
        for group in self.optimizer.param_groups:
            group["lr"] = train.lr * lr_factor(train, done, train.epochs * self.steps_per_epoch)
        x, y = self._augment("augment", self.train.x[rows]), self.train.y[rows]
        batch = Batch(x, self._attack(x, y, done), y, train.label_smoothing, self.miner)
        self.network.train()
        self.optimizer.zero_grad()
        loss, logs = LOSSES[self.model.method](
            self.network, batch, self.params.methods[self.model.method])
        if not loss.isfinite():
            raise UserError(f"{self.params.config}: the loss of {self.model} seed {self.seed} is {loss.item()} "
                            f"in epoch {self.epochs_done + 1}; try a lower train.lr")
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item()} | logs

    def _attack(self, x: Tensor, y: Tensor, done: int) -> Tensor:
        """Adversarial images in evaluation mode; eps and step size grow linearly during the ramp."""
        attack, ramp = self.params.attack, self.params.train.eps_ramp_epochs * self.steps_per_epoch
        grown = min((done + 1) / ramp, 1.0) if ramp else 1.0
        self.network.eval()
        return adversarial_images(
            self.model.method, self._logits, x, y, eps=grown * attack.eps,
            step_size=grown * attack.step_size, steps=attack.steps,
            smoothing=self.params.train.label_smoothing, generator=self.streams["attack"])

    def _augment(self, name: str, x: Tensor) -> Tensor:
        return augment(x, self.params.train.crop_padding, self.params.train.flip, self.streams[name])

    def _logits(self, x: Tensor) -> Tensor:
        return self.network(x)[0]

    def _validate(self) -> dict[str, float]:
        """Robust accuracy on validation images, under the same stream of random starts at every epoch.

        The best checkpoint has the highest; clean accuracy and then the later epoch break ties.
        """
        self.network.eval()
        generator = stream(self.seed, "selection", self.held.x.device)
        clean, mask = robust(self._logits, self.held.x, self.held.y, self.params.train.selection,
                             eps=self.params.attack.eps, generator=generator)
        score = (mask.double().mean().item(), clean.double().mean().item())
        if score >= self.best_score:
            self.best, self.best_score = copy.deepcopy(self.network.state_dict()), score
        return {"validation_robust_accuracy": score[0], "validation_clean_accuracy": score[1]}


    def state(self) -> dict:
        """All that the next epoch depends on."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                "streams": {name: g.get_state() for name, g in self.streams.items()}, "log": self.log,
                "epochs_done": self.epochs_done, "best": self.best, "best_score": self.best_score}

    def load_state(self, state: dict) -> None:
        """Continue where `state` was taken, to the same bits as if never stopped."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, generator in self.streams.items():
            generator.set_state(state["streams"][name].cpu())
        self.log, self.epochs_done = state["log"], state["epochs_done"]
        self.best, self.best_score = state["best"], tuple(state["best_score"])


def train_model(params: Params, model: ModelId, seed: int, position: int, data: Dataset,
                resume: Resume) -> tuple[Classifier, list[dict]]:
    """Train one seed of a model; returns the chosen network and one log row per epoch.

    A run that was stopped continues from what `resume` last kept; the caller forgets it when all is done.
    """
    trainer = Trainer(params, model, seed, position, data)
    if kept := resume.load(trainer.train.x.device):
        trainer.load_state(kept)
    epochs = range(trainer.epochs_done, params.train.epochs)
    for _ in tqdm(epochs, f"{model} seed {seed}", unit="epoch", position=position + 1, leave=False, disable=None):
        trainer.epoch()
        resume.keep(trainer.state)
    trainer.network.load_state_dict(trainer.best)
    return trainer.network.eval(), trainer.log
