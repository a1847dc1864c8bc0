"""Where and how a stage computes: device, determinism, one worker process per core."""

import argparse
import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from tqdm import tqdm

from tla.core.checkpoints import load_model
from tla.core.data import Dataset
from tla.core.models import Classifier
from tla.params import load_params, parse_model


def setup() -> torch.device:
    """Deterministic algorithms, one thread (workers share the cores), and the device to use."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The same as use_deterministic_algorithms(True), which also loads the compiler, a second per stage.
    torch.set_deterministic_debug_mode("error")
    torch.set_num_threads(1)
    _keep_freed_memory()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _keep_freed_memory() -> None:
    """Have glibc keep freed tensors: fresh pages from the kernel for each cost up to a third of an attack."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):    # another C library
        return
    for parameter in (-1, -3):                      # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
        mallopt(parameter, 1 << 26)


def map_parallel(function: Callable, items: Sequence, device: torch.device, title: str) -> list:
    """[function(item), ...]; on the CPU one forked worker per core, on a GPU one after the other.

    Every item computes on one thread either way, so the number of cores changes no bit of a result.
    `title` names the progress bar over items.
    """
    bar = partial(tqdm, total=len(items), desc=title, leave=False, disable=None)
    workers = min(len(items), len(os.sched_getaffinity(0)))
    if device.type != "cpu" or workers < 2:
        return list(bar(map(function, items)))
    global _inherited
    _inherited = function       # the fork carries it over; pickling would copy the data set to each worker
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        return list(bar(pool.map(_call_inherited, items)))


def _call_inherited(item):
    return _inherited(item)


class ModelStage:
    """What a stage about one model starts from: parameters, model, data, device and output folders."""

    def __init__(self, description: str, argv: list[str] | None):
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("config", help="params.yaml of the data set")
        parser.add_argument("--model", required=True, help="um, at, alp, kurakin, at-norm, tla-sa or tla-b<pool>")
        arguments = parser.parse_args(argv)
        self.params = load_params(arguments.config)
        self.model = parse_model(arguments.model, self.params)
        self.device = setup()
        folder = Path("data", self.params.dataset)
        self.data = Dataset(folder / "prepared", self.device)
        self.rows, self.reports = folder / "rows", Path("reports", self.params.dataset)

    def path(self, seed: int) -> Path:
        """Weights of one seed of the model."""
        return Path("data", self.params.dataset, "models", str(self.model), f"seed-{seed}.safetensors")

    def network(self, seed: int) -> Classifier:
        """The trained network of one seed, in evaluation mode, on the stage's device."""
        return load_model(self.path(seed), self.params, self.model).to(self.device)

    def for_each_seed(self, function: Callable[[int, int], object]) -> list:
        """[function(position, seed), ...] over the study's seeds, in parallel where cores are free."""
        seeds = self.params.seeds
        return map_parallel(lambda i: function(i, seeds[i]), range(len(seeds)), self.device, f"seeds of {self.model}")
