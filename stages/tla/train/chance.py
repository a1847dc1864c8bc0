"""Random numbers: a stream for each use, so that one more draw in one changes no other."""

import os

import numpy as np
import torch

STREAMS = ("init", "shuffle", "augment", "attack", "mining", "selection", "evaluation",
           "detection", "queries")


def stream_seed(seed: int, name: str, *more: int) -> int:
    """The seed of one use of chance (`STREAMS`) of a training seed; `more` tells uses apart."""
    sequence = np.random.SeedSequence([seed, STREAMS.index(name), *more])
    return int(sequence.generate_state(1)[0])


def stream(seed: int, name: str, device: torch.device, *more: int) -> torch.Generator:
    """The generator of one use of chance of one training seed."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name, *more))


def deterministic() -> torch.device:
    """Only deterministic algorithms on one thread, and the device to compute on."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As use_deterministic_algorithms(True), which also loads the compiler, a second per stage.
    torch.set_deterministic_debug_mode("error")
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False     # float32 on a GPU too: it decides outcomes
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
