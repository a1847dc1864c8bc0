"""Small, real objects shared by the tests: parameters, digits, trained networks, a data set."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional as F

from tla.files import write_bytes
from tla.params import Attack, Model
from tla.train.data import Dataset, Split, digits, prepared
from tla.train.methods import load_study
from tla.train.models import build

# One thread: the tests share their machine, and their tensors are too small to gain from more.
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

PARAMS = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture(scope="session")
def raw_params():
    """params.yaml as plain dictionaries."""
    return yaml.safe_load(PARAMS.read_text())


@pytest.fixture(scope="session")
def params():
    return load_study(PARAMS)


@pytest.fixture
def write_params(raw_params, tmp_path):
    """Writes params.yaml with other values under dotted keys; the value `...` removes the key."""
    def write(changes):
        tree = copy.deepcopy(raw_params)
        for key, value in changes.items():
            *parents, leaf = key.split(".")
            section = tree
            for parent in parents:
                section = section[parent]
            if value is ...:
                del section[leaf]
            else:
                section[leaf] = value
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path
    return write


@pytest.fixture
def make_params(write_params):
    """The parameters of params.yaml with other values under dotted keys."""
    return lambda changes: load_study(write_params(changes))


@pytest.fixture
def plain_attack():
    """Builds an attack of ten cross-entropy sign steps of 0.2 eps, with other values by name."""
    base = {"kind": "gradient", "loss": "cross_entropy", "steps": [10], "rel_step_size": 0.2,
            "random_start": False, "restarts": 1, "momentum": "none", "decay": 0.0}
    return lambda **changes: Attack(**base | changes)


def seeded(seed=0):
    """A generator of random numbers."""
    return torch.Generator().manual_seed(seed)


def unchanged(x):
    """No augmentation."""
    return x


def some_digits(n):
    """The first n digits in float64, with their classes."""
    raw = digits()
    return torch.from_numpy(raw.x[:n]).double() / raw.scale, torch.from_numpy(raw.y[:n])


@pytest.fixture(scope="session")
def images():
    """Sixty-four digits and their classes."""
    return some_digits(64)


def trained(architecture, widths):
    """A network fitted to 500 digits in float64, in evaluation mode and with its weights frozen."""
    x, y = some_digits(500)
    model = Model(architecture, widths, [0.3], [0.4], channels_last=False)
    network = build(model, (1, 8, 8), 10, seed=0).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(network(x)[0], y).backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def networks():
    """A trained multilayer perceptron and a trained convolutional network, by architecture."""
    return {"mlp": trained("mlp", [24, 16]), "convnet": trained("convnet", [4, 8, 16])}


@pytest.fixture(scope="session")
def network(networks):
    return networks["mlp"]


@pytest.fixture(scope="module")
def net(networks):
    """The trained perceptron in single precision."""
    return copy.deepcopy(networks["mlp"]).float()


@pytest.fixture(scope="module")
def split(images):
    """The digits of `images` in single precision, as a part of a data set."""
    x, y = images
    return Split(x.float(), y, torch.arange(len(y)) + 100)


@pytest.fixture(scope="session")
def logits_fn(network):
    """The trained perceptron as attacks see it."""
    return lambda x: network(x)[0]


def prepare_digits(folder, params):
    """200 digits in a folder, split as the parameters say."""
    raw = digits()
    raw = dataclasses.replace(raw, x=raw.x[:200], y=raw.y[:200])
    write_bytes(folder / "images.safetensors", prepared(raw, params)[0])


@pytest.fixture
def dataset(params, tmp_path):
    """200 digits, split into the folds of params.yaml."""
    prepare_digits(tmp_path, params)
    return Dataset(tmp_path, params, torch.device("cpu"))


@pytest.fixture
def study(dataset, write_params, raw_params, network, monkeypatch, tmp_path):
    """A study of 200 digits in an empty folder, in which stages run at once."""
    from small_study import SmallStudy  # it imports from here
    return SmallStudy(dataset, write_params, raw_params, network, monkeypatch, tmp_path)
