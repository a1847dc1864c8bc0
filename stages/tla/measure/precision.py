"""The network that searches: bfloat16 where a study says so, in the memory layout that suits it."""

import copy

import torch
from torch import Tensor, nn

from tla.measure.engine import Search
from tla.params import Precision


def search_of(model: nn.Module, precision: Precision) -> Search | None:
    """What an attack on `model` asks for most of its steps; None where that is the model itself.

    A channels-last copy of the network under bfloat16 autocast; it takes images [n, c, h, w] in
    float32 and returns logits [n, classes] in float32.
    """
    if precision.search == "float32":
        return None
    stand_in = copy.deepcopy(model).to(memory_format=torch.channels_last)

    def logits_fn(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return stand_in(x.contiguous(memory_format=torch.channels_last))[0].float()

    return Search(logits_fn, precision.exact_steps)
