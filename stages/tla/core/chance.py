"""Random numbers: a stream of its own for each use, so that one more draw in one changes no other."""

import numpy as np
import torch

STREAMS = ("init", "shuffle", "augment", "attack", "mining", "selection", "evaluation", "detection", "queries")


def stream_seed(seed: int, stream: str, *more: int) -> int:
    """The seed of one use of chance (`STREAMS`) of one training seed; `more` tells uses of a kind apart."""
    return int(np.random.SeedSequence([seed, STREAMS.index(stream), *more]).generate_state(1)[0])


def stream(seed: int, name: str, device: torch.device, *more: int) -> torch.Generator:
    """The generator of one use of chance of one training seed."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name, *more))
