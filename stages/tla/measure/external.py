"""Models from outside the study: how they are loaded, and whether they are fit to be attacked.

A model takes images [n, c, h, w] with pixels in [0, 1] and holds whatever normalisation it needs.
It returns logits [n, classes], alone or with an embedding [n, d].
"""

import hashlib
import importlib.util
import logging
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tla.measure.answers import check_model
from tla.params import Model, UserError, checked
from tla.sources import LIBRARY
from tla.train.data import Split
from tla.train.methods import METHODS
from tla.train.models import build
from tla.train.pgd import cross_entropy, input_gradient
from tla.train.stored import digest_of, read_tensors

FORMS = ("a Python file and its function (file.py:function), TorchScript (.pt), an exported "
         "program (.pt2), or weights that this project wrote (.safetensors)")
ALIKE = 1e-3    # of the largest logit: what another batch may change by rounding, on a GPU too


@dataclass(frozen=True)
class Loaded:
    """A network in evaluation mode, SHA-256 of all that was read for it, and where it is one of
    ours the metadata of its file, else nothing."""

    network: nn.Module
    digest: str
    about: dict


class External(nn.Module):
    """(logits, embedding or None) of a network that returns the one or both.

    It stays in the mode that it was loaded in, and remembers the images that it saw last.
    """

    def __init__(self, network: nn.Module, images: int, classes: int):
        super().__init__()
        self.network, self.images, self.seen = network, images, []
        self.head = SimpleNamespace(out_features=classes)   # where HopSkipJump looks for it

    def train(self, mode: bool = True) -> "External":
        """An exported program refuses to be asked for a mode."""
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        self._remember(x.detach())
        found = self.network(x)
        if isinstance(found, Tensor):
            return found, None
        pair = isinstance(found, tuple | list) and len(found) == 2
        if not (pair and all(isinstance(part, Tensor) for part in found)):
            raise ValueError(f"returned a {type(found).__name__}, not logits, alone or with an "
                             "embedding")
        return found[0], found[1]

    def _remember(self, x: Tensor) -> None:
        self.seen.append(x)
        while sum(map(len, self.seen[1:])) >= self.images:
            del self.seen[0]

    def last(self, n: int) -> Tensor:
        """The last n of at least so many images that it saw, [n, c, h, w]; n at most `images`."""
        return torch.cat(self.seen)[-n:]


# Loading

def load_external(model: str, weights: str | None) -> Loaded:
    """The model that --model names, with the weights of a file. Raises UserError in one line."""
    name, _, function = model.partition(":")
    path = Path(name)
    if path.suffix not in (".py", *PROGRAMS):
        raise UserError(f"--model: {model!r} is none of these: {FORMS}")
    if weights is not None and path.suffix != ".py":
        raise UserError(f"--weights: {path} holds its own; other weights go with a Python file")
    sources, about = [_existing(path)], {}
    if path.suffix == ".py":
        network, imported = _from_function(path, function)
        sources += imported
    else:
        network, about = PROGRAMS[path.suffix](path)
    if weights is not None:
        sources.append(_existing(Path(weights)))
        _fit_weights(network, Path(weights), model)
    if getattr(network, "stochastic", False):
        raise UserError(f"{model}: draws its answers; this command attacks networks that always "
                        "answer alike. List its method under models of a study: dvc repro attacks "
                        "the expected answer")
    if path.suffix != ".pt2":       # an exported program has the mode that it was exported in
        network.eval()
    for name, values in network.named_parameters():
        if not values.isfinite().all():
            raise UserError(f"{weights or model}: weights that are not finite: {name}")
        values.requires_grad_(False)
    return Loaded(network, _digest(network, sources), about)


def load_ours(path: str | Path) -> nn.Module:
    """A model of this project from its file of weights alone, in evaluation mode, on the CPU.

    (logits [n, classes], embedding [n, d]) of images [n, c, h, w] in [0, 1]. Raises UserError where
    the file does not hold one.
    """
    return _ours(_existing(Path(path)))[0].eval()


def _ours(path: Path) -> tuple[nn.Module, dict]:
    remedy = "weights of another go with a Python file: --model file.py:function --weights"
    weights, about = read_tensors(path, remedy)
    try:
        known = about["params"]
        network = build(checked(Model, known["model"], path), tuple(about["shape"]),
                        about["classes"], seed=0)
        method = METHODS[known["method"]]
        if hasattr(method, "network"):
            section = checked(method.Parameters, known["parameters"], path)
            network = method.network(network, section, seed=0)
        network.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise UserError(f"{path}: is no model that this project trained; {remedy}") from None
    return network, about


def _torchscript(path: Path) -> tuple[nn.Module, dict]:
    with _one_line(f"{path}: is no TorchScript program"), _quiet():
        return torch.jit.load(path, map_location="cpu"), {}


def _exported(path: Path) -> tuple[nn.Module, dict]:
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: is no exported program; write one with torch.export.save")
    with _one_line(f"{path}: is no exported program"), _quiet():
        return torch.export.load(path).module(), {}


PROGRAMS: dict[str, Callable[[Path], tuple[nn.Module, dict]]] = {
    ".pt": _torchscript, ".pt2": _exported, ".safetensors": _ours}


def _from_function(path: Path, name: str) -> tuple[nn.Module, list[Path]]:
    """What the function of a Python file returns, and the files that lie beside it.

    Random weights are the same at every call.
    """
    with _one_line(f"{path}: cannot be run"):
        module = _imported(path)
    if not callable(function := getattr(module, name, None)):
        raise UserError(f"{path}: has no function {name!r}; name it as --model {path}:function")
    with _one_line(f"{path}:{name}: failed"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = function()
    if not isinstance(network, nn.Module):
        raise UserError(f"{path}:{name}: returned a {type(network).__name__}, not a module of "
                        "torch.nn")
    return network, _beside(path)


def _beside(path: Path) -> list[Path]:
    """Files in the folder of a Python file, or below, that are imported: it may hang on them."""
    files = []
    for module in list(sys.modules.values()):
        file = Path(getattr(module, "__file__", None) or "/")
        installed = "site-packages" in file.parts or file.is_relative_to(LIBRARY)
        if file.is_relative_to(path.resolve().parent) and not installed:
            files.append(file)
    return sorted(files)


def _imported(path: Path) -> ModuleType:
    """A Python file as a module; what lies beside it can be imported by it, and later too."""
    name, folder = f"external_{path.stem}", str(path.parent.resolve())
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, folder)      # its own models.py goes before ours
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
        sys.path.append(folder)
    return module


def _fit_weights(network: nn.Module, path: Path, model: str) -> None:
    if path.suffix == ".safetensors":
        with _one_line(f"{path}: is no safetensors file"):
            weights = load_file(path)
    else:
        with _one_line(f"{path}: holds no state dict that can be read without running code"):
            weights = torch.load(path, map_location="cpu", weights_only=True)
    with _one_line(f"{path}: does not fit {model}"):
        network.load_state_dict(weights)


def _digest(network: nn.Module, sources: list[Path]) -> str:
    """SHA-256 of a network's state and of the files that it was made from."""
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    state = {}
    for name, values in network.state_dict().items():
        state[name] = values.cpu().reshape(-1).view(torch.uint8)
    digest.update(digest_of(state).encode())
    return digest.hexdigest()


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return path


@contextmanager
def _one_line(said: str) -> Iterator[None]:
    """Whatever goes wrong in a file of others, as a UserError of one line."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{said}: {in_words(error)}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of a loader: that TorchScript ages, or a page about a damaged file."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def in_words(error: Exception) -> str:
    """An error in one line of bounded length."""
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"


# Fitness

def check_external(network: External, split: Split, classes: int) -> None:
    """Raise ValueError where a network is unfit to be attacked on images such as these.

    Beyond `check_model`: it takes these images, any number of them, and answers alike whatever is
    beside an image. Its gradient is another check's: it may not be asked for before a fork.
    """
    shape = " x ".join(map(str, split.x.shape[1:]))
    try:
        with torch.no_grad():
            logits, embedding = network(split.x)
            alone = network(split.x[:1])[0]
    except Exception as error:
        said = str(error) if isinstance(error, ValueError) else in_words(error)
        raise ValueError(f"does not answer on 1 and {len(split.x)} images of {shape} pixels: "
                         f"{said}") from None
    check_model(network, split.x, classes)
    if (alone - logits[:1]).abs().max() > ALIKE * logits.abs().max():
        raise ValueError("answers otherwise where other images are beside one; it must be in "
                         "evaluation mode")
    if embedding is not None and (embedding.ndim != 2 or len(embedding) != len(split.x)):
        raise ValueError(f"returned an embedding of shape {tuple(embedding.shape)}, not "
                         f"({len(split.x)}, d)")


def check_gradient(network: External, split: Split) -> None:
    """Raise ValueError where logits have no finite gradient with respect to pixels."""
    try:
        _, gradient = input_gradient(lambda x: network(x)[0], split.x, split.y, cross_entropy)
    except RuntimeError as error:
        raise ValueError(f"has no gradient with respect to pixels ({in_words(error)}); gradient "
                         "attacks need one") from None
    if not gradient.isfinite().all():
        raise ValueError("has a gradient that is not finite; gradient attacks need one")
