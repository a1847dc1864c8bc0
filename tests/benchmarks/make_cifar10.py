"""Store test images, and a trained network, for the benchmarks: they need no download then.

    python tests/benchmarks/make_cifar10.py CONFIG [MODEL SEED]

takes the prepared data of a study and writes tests/benchmarks/<source>.safetensors: x uint8 [256,
c, h, w], y uint8 [256], idx int64 [256] (row in the original data set) and, with MODEL and SEED,
that network's weights in float16 as weights/<name>. mnist.safetensors was made without them:
mnist-at.safetensors, beside it, is data/mnist-fast/models/at/seed-0.safetensors.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from common import CPU, HERE, IMAGES, ROOT
from safetensors.torch import save_file
from torch import Tensor

from tla.params import Params, UserError
from tla.train.checkpoints import load_model, model_path
from tla.train.data import TEST, Dataset
from tla.train.methods import load_study

DRAW = 0    # draws the sample


def sample(data: Dataset) -> dict[str, Tensor]:
    """Images of the first seed's test images, drawn without regard to their class."""
    test = data.split(0, TEST)
    generator = torch.Generator().manual_seed(DRAW)
    chosen = test.take(torch.randperm(len(test.y), generator=generator)[:IMAGES])
    pixels = (chosen.x * 255).round().byte()
    return {"x": pixels, "y": chosen.y.byte(), "idx": chosen.idx}


def weights(params: Params, model: str, seed: int) -> dict[str, Tensor]:
    """A trained network's weights and buffers under weights/..., fractions as float16."""
    found = {}
    network = load_model(ROOT / model_path(params, model, seed), params, model, seed)
    for name, tensor in network.state_dict().items():
        stored = tensor.half() if tensor.is_floating_point() else tensor
        found[f"weights/{name}"] = stored.contiguous()    # a channels-last network's are not
    return found


def main(argv: list[str] | None = None, folder: Path = HERE) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="params.yaml of the study")
    parser.add_argument("model", nargs="?", help="one of its models; without, images alone")
    parser.add_argument("seed", nargs="?", type=int, help="one of its seeds")
    arguments = parser.parse_args(argv)
    if arguments.model and arguments.seed is None:
        raise UserError("a model needs its seed: CONFIG MODEL SEED")
    params = load_study(arguments.config)
    data = Dataset(ROOT / "data" / params.dataset / "prepared", params, CPU)
    arrays, about = sample(data), {}
    if arguments.model:
        arrays |= weights(params, arguments.model, arguments.seed)
        about = {
            "model": dataclasses.asdict(params.model), "classes": data.classes,
            "eps": params.attack.eps, "precision": dataclasses.asdict(params.evaluate.precision),
            "dataset": params.dataset, "name": arguments.model, "seed": arguments.seed}
    path = folder / f"{params.data.source}.safetensors"
    save_file(arrays, path, {"about": json.dumps(about, sort_keys=True)})
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
