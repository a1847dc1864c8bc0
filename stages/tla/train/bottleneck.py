"""A network whose embedding is a distribution: the variational information bottleneck.

Alemi et al. 2017: a Gaussian with independent coordinates, whose mean and scale hang on the image;
the head classifies a draw of it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tla.train.chance import stream, stream_seed
from tla.train.models import Classifier

SHIFT = 5.0     # authors (vib_demo): the scale is softplus(. - 5), little noise to begin with


class Bottleneck(nn.Module):
    """Made of a new `network`; mean and scale are linear in its embedding and as wide.

    `stochastic` announces that a prediction is one draw, and that accuracy is a mean over draws.
    Called like any network it answers with what training attacks and chooses checkpoints by: its
    expected answer over a bank of `draws` draws of noise that is stored with the weights.
    """

    stochastic = True

    def __init__(self, network: Classifier, draws: int, seed: int):
        super().__init__()
        self.normalize, self.body, self.head = network.normalize, network.body, network.head
        self.seed, d = seed, network.head.in_features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(seed, "init", 1))
            self.mean, self.scale = nn.Linear(d, d), nn.Linear(d, d)
            self.register_buffer("bank", torch.randn(draws, d))
        # Stored, so that a training that was stopped goes on with the noise that it would have had.
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Expected answer over the bank, [n, classes], and mean embedding, [n, d]."""
        return self.expected(x, self.bank)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale of the embedding of images [n, c, h, w], both [n, d]."""
        hidden = self.body(self.normalize(x))
        exact = self.head.weight.dtype      # under autocast the layers return bfloat16
        return self.mean(hidden).to(exact), F.softplus(self.scale(hidden).to(exact) - SHIFT)

    def decode(self, mean: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
        """Logits [n, classes] of the draw mean + scale * noise, all [n, d]."""
        return self.head(mean + scale * noise).to(mean.dtype)

    def draw(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Logits of one draw, noise of its own for each image, and mean embedding."""
        mean, scale = self.encode(x)
        return self.decode(mean, scale, normal(mean, generator)), mean

    def expected(self, x: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
        """Log of the mean probabilities over draws, [n, classes], and mean embedding.

        The noise `bank`, [draws, d], is the same for every image. The head is linear, so its answer
        to all draws is one product with `scale`, and no draw is written down.
        """
        mean, scale = self.encode(x)
        tilted = (self.head.weight * bank[:, None]).flatten(0, 1)       # [draws * classes, d]
        noise = (scale @ tilted.T).view(len(x), len(bank), -1)
        logits = (self.head(mean)[:, None] + noise).to(mean.dtype)
        return logits.log_softmax(2).logsumexp(1) - math.log(len(bank)), mean

    def training_noise(self, mean: Tensor) -> Tensor:
        """Noise like `mean` for the next step of training; every step has its own."""
        self.drawn += 1
        return normal(mean, stream(self.seed, "augment", mean.device, int(self.drawn)))


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers in the shape of `like`."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
