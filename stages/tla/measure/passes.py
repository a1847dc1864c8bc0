"""What training costs, counted while the code runs: images through the network per training image.

Wall time hangs on the machine, these counts on the method and its parameters alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from tla.measure.stage import Stage
from tla.train.checkpoints import load_model
from tla.train.training import Trainer


@dataclass
class Passes:
    """Images sent forward through a network, and those that a gradient came back through."""

    forward: int = 0
    backward: int = 0


@contextmanager
def counted(network: nn.Module) -> Iterator[Passes]:
    """Counts the images that pass through the network as long as the context lasts.

    They are counted where they leave its body: every method asks for embeddings, one draws of them
    in its own way. One gradient that reaches them is one backward pass of these images, whether it
    is followed to the weights or to the pixels.
    """
    passes = Passes()

    def on_forward(_, inputs, embedding) -> None:
        images, followed = len(embedding), []
        passes.forward += images

        def on_gradient(_) -> None:
            if not followed:
                passes.backward += images
                followed.append(True)

        if embedding.requires_grad:
            embedding.register_hook(on_gradient)

    handle = network.body.register_forward_hook(on_forward)
    try:
        yield passes
    finally:
        handle.remove()


def cost_rows(stage: Stage, model: str) -> pd.DataFrame:
    """A training step of the first seed, from its trained weights: what went through the network.

    One row: seed, images of the batch, forward, backward. Validation is not training; it costs
    every method the same.
    """
    seed = stage.params.seeds[0]
    trainer = Trainer(stage.params, model, seed, 0, stage.data)
    trained = load_model(stage.path(model, seed), stage.params, model, seed)
    trainer.network.load_state_dict(trained.state_dict())
    return pd.DataFrame([{"seed": seed} | of_a_step(trainer)])


def of_a_step(trainer: Trainer) -> dict[str, int]:
    """Images of a training batch, and those that its step sends forward and backward."""
    rows = torch.arange(min(trainer.params.train.batch, len(trainer.train.x)),
                        device=trainer.train.x.device)
    with counted(trainer.network) as passes:
        trainer._step(rows, 0)
    return {"images": len(rows), "forward": passes.forward, "backward": passes.backward}


def training_rows(stage: Stage, model: str) -> pd.DataFrame:
    """What a whole training computes, as no clock tells it.

    One row: what a step sends through the network, the number of steps, and multiply_adds of the
    convolutions and matrix products that one image's way forward takes.
    """
    from torch.utils.flop_counter import FlopCounterMode  # half a second, for this alone
    trainer = Trainer(stage.params, model, stage.params.seeds[0], 0, stage.data)
    step = of_a_step(trainer)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        trainer.network.eval()(trainer.train.x[:1])
    steps = stage.params.train.epochs * trainer.steps_per_epoch
    return pd.DataFrame([{"model": model} | step | {
        "steps": steps, "multiply_adds": counter.get_total_flops() // 2}])
