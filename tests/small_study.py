"""A study that fits into a test, and networks whose answers are known."""

import copy
from pathlib import Path

import torch
import yaml
from conftest import prepare_digits

from tla.measure import stage as measuring
from tla.train.checkpoints import model_path, save_model
from tla.train.methods import load_study

CPU = torch.device("cpu")
NAMES = ["um", "at", "alp", "tla"]
SMALL = {
    "seeds": [0, 1], "tune.seeds": [0, 1], "models": NAMES, "represent.models": NAMES,
    "model.widths": [24, 16], "model.mean": [0.3], "model.std": [0.4], "train.stored": "float32",
    "evaluate.images": {"autoattack": 3, "square": 8, "cw": 20},
    "evaluate.seeds": {"autoattack": [1], "square": [1]}, "evaluate.attacks.square.queries": 20,
    "textbook.images": 6, "textbook.steps": 4, "textbook.halvings": 3, "textbook.l2_steps": 5,
    "textbook.leaking_images": 10, "masking.images": 6, "masking.steps": 4, "masking.points": 3,
    "hop_skip": {"images": 3, "iterations": 1, "evaluations": 20, "initial_evaluations": 10},
    "norms.images": 6, "norms.l2_radii": [0.5, 1.0], "norms.l0_radii": [1, 4],
    "norms.apgd.steps": 4, "norms.ddn.steps": 5, "norms.fmn.steps": 5,
    "norms.pointwise": {"noise_steps": 10, "restarts": 1}, "transfer.images": 6,
    "detect.components": 2, "detect.steps": 3, "represent.images": 20,
    "detect.aware.images": 30, "neighbors.mismatch.images": 30,
    "represent.iterations": 250, "ood.images": 10}


def short(attacks):
    """Gradient attacks of a params.yaml in two steps, those of several budgets also in four."""
    changes = {}
    for name, attack in attacks.items():
        if attack["kind"] == "gradient":
            steps = [2, 4] if len(attack["steps"]) > 1 else [min(2, attack["steps"][0])]
            fewer = {"steps": steps, "restarts": min(2, attack["restarts"])}
            changes[f"evaluate.attacks.{name}"] = attack | fewer
    return changes


class SmallStudy:
    """200 digits in an empty folder, and one trained perceptron as every model and seed.

    Only the bias of a class differs between them, hardly, so that every file is its own. Stages
    run here, one piece of work after the other; `measured` lists which were not read but run.
    Where `columns` is set, they stand for all that is measured.
    """

    def __init__(self, dataset, write_params, raw_params, network, monkeypatch, folder):
        self.write_params, self.monkeypatch, self.data = write_params, monkeypatch, dataset
        self.short = short(raw_params["evaluate"]["attacks"])
        self.measured, self.columns = [], None
        self.network = copy.deepcopy(network).float()
        monkeypatch.chdir(folder)
        monkeypatch.setattr(measuring, "deterministic", self._one_thread)
        monkeypatch.setattr(measuring, "map_parallel", self._one_by_one)
        monkeypatch.setattr(measuring, "kept", self._watched(measuring.kept))

    @staticmethod
    def _one_thread():
        torch.set_num_threads(1)
        return CPU

    @staticmethod
    def _one_by_one(function, items, title, parallel):
        return [function(item) for item in items]

    def _watched(self, kept):
        def watched(path, key, function):
            def counted():
                self.measured.append(f"{path.parent.name} {path.stem}")
                return function() if self.columns is None else self.columns
            return kept(path, key, counted)
        return watched

    def params(self, changes=None):
        """The small parameters, with other values under dotted keys; written, as the images."""
        params = load_study(self.write_params(SMALL | self.short | (changes or {})))
        prepare_digits(Path("data", params.dataset, "prepared"), params)
        return params

    def train(self, params, models=NAMES):
        """Write the weights of every seed of some models."""
        for model in models:
            for seed in params.seeds:
                self.save(params, model, seed, 1e-4 * (1 + seed + 10 * NAMES.index(model)))

    def save(self, params, model, seed, shift):
        """Write the perceptron with the bias of class 0 shifted."""
        network = copy.deepcopy(self.network)
        network.head.bias.data[0] += shift
        path = model_path(params, model, seed)
        save_model(path, network, params, model, seed, self.data)

    def stage(self, changes=None):
        """A stage of the small study whose models are all trained."""
        params = self.params(changes)
        self.train(params)
        return measuring.Stage(params)

    def again(self):
        """What was measured since this was last asked, sorted."""
        found, self.measured = sorted(self.measured), []
        return found


def edit(path, changes):
    """Other values in a params.yaml that is written already."""
    plain = yaml.safe_load(Path(path).read_text())
    for key, value in changes.items():
        *parents, leaf = key.split(".")
        section = plain
        for parent in parents:
            section = section[parent]
        section[leaf] = value
    Path(path).write_text(yaml.safe_dump(plain))


def logits(model):
    """A network as attacks see it."""
    return lambda x: model(x)[0]


class Answers(torch.nn.Module):
    """A network that answers with a function of its logits."""

    def __init__(self, network, change):
        super().__init__()
        self.network, self.change, self.head = network, change, network.head

    def forward(self, x):
        found, embedding = self.network(x)
        return self.change(found), embedding


def masked(network):
    """Logits times ten thousand: softmax saturates, and cross-entropy loses its gradient."""
    return Answers(network, lambda z: 1e4 * z)


class Linear(torch.nn.Module):
    """A linear classifier of two pixels into two classes: logits (0, w x + b)."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = torch.tensor(weight), bias

    def forward(self, x):
        score = x.flatten(1) @ self.weight + self.bias
        return torch.stack([torch.zeros_like(score), score], 1), x.flatten(1)


class Flat(torch.nn.Module):
    """Class 1 only where the pixels' sum is a tenth above mid-grey's; flat before."""

    def forward(self, x):
        score = torch.relu(x.flatten(1).sum(1) - x[0].numel() / 2 - 0.1) - 0.01
        return torch.stack([torch.zeros_like(score), score], 1), x.flatten(1)
