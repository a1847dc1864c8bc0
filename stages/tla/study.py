"""What a stage about several models starts from, and work that is kept while it goes on."""

import argparse
import hashlib
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pandas as pd
from torch import Tensor

from tla.core.checkpoints import load_model
from tla.core.data import TEST, Dataset, Split
from tla.core.models import Classifier
from tla.core.resume import Resume
from tla.core.runtime import map_parallel, setup
from tla.evaluation import check_model
from tla.params import UserError, load_params, model_names, parse_model

Columns = dict[str, Tensor]


class Study:
    """Parameters, data, device and the trained networks of one data set."""

    def __init__(self, description: str, argv: list[str] | None):
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("config", help="params.yaml of the data set")
        self.params = load_params(parser.parse_args(argv).config)
        self.device, self.models = setup(), model_names(self.params)
        self.data = Dataset(Path("data", self.params.dataset, "prepared"), self.device)
        self.rows, self.reports = Path("data", self.params.dataset, "rows"), Path("reports", self.params.dataset)

    def path(self, model: str, seed: int) -> Path:
        """Weights of one seed of a model."""
        return Path("data", self.params.dataset, "models", model, f"seed-{seed}.safetensors")

    def digest(self, model: str, seed: int) -> str:
        """SHA-256 of the weights of one seed of a model."""
        return hashlib.sha256(self.path(model, seed).read_bytes()).hexdigest()

    def network(self, model: str, seed: int) -> Classifier:
        """The trained network of one seed of a model, in evaluation mode. Raises UserError if unfit to be attacked."""
        network = load_model(self.path(model, seed), self.params, parse_model(model, self.params)).to(self.device)
        try:
            check_model(network, self.test(seed, 100).x, self.data.classes)
        except ValueError as error:
            raise UserError(f"{self.path(model, seed)}: the model {error}") from None
        return network

    def test(self, seed: int, images: int | None) -> Split:
        """The first so many test images of one seed."""
        return self.data.split(self.params.seeds.index(seed), TEST).first(images)

    def each(self, name: str, function: Callable[[str, int], Columns], seeds: list[int], *settings) -> pd.DataFrame:
        """Rows of function(model, seed) for every model and these seeds, below each other, with both as columns.

        Results are kept by weights, settings and code, so that a stopped run goes on where it was and a
        new model does not repeat the others.
        """
        scripts = sorted(Path(__file__).parents[1].rglob("*.py"))
        code = hashlib.sha256(b"".join(path.read_bytes() for path in scripts)).hexdigest()

        def kept(job: tuple[str, int]) -> Columns:
            key = json.dumps([self.digest(*job), repr(settings), code])
            resume = Resume("-".join(map(str, (name, self.params.dataset, *job))), key, seconds=0)
            if (columns := resume.load(self.device)) is None:
                columns = function(*job)
                resume.keep(lambda: columns)
            return columns

        jobs = list(product(self.models, seeds))
        return pd.concat([
            pd.DataFrame({"model": model, "seed": seed} | {k: v.cpu().numpy() for k, v in columns.items()})
            for (model, seed), columns in zip(jobs, map_parallel(kept, jobs, self.device, name), strict=True)])
