"""PGD steps on a GPU against what the device can do; `python tests/benchmarks/gpu.py`.

One step is a forward pass, the gradient of the images, and a signed step in the ball. Networks are
untrained: weights change no time. `of_peak` is the arithmetic of the step's matrix products and
convolutions a second, over that of a large matrix product in the same precision.
"""

import dataclasses
from collections.abc import Callable

import pandas as pd
import torch
from common import REPORTS, ROOT, STUDIES
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tla.files import write_table
from tla.params import Model
from tla.train.methods import load_study
from tla.train.models import build
from tla.train.pgd import cross_entropy, input_gradient

IMAGES = (256, 1024, 4096)
SIDE = 8192                     # of the matrices of the peak
LEAST = 0.3                     # seconds that a timing goes on for
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
EPS = 0.1
CIFAR10 = ROOT / "experiments" / "cifar10-fast" / "params.yaml"

Step = Callable[[], object]


def networks() -> dict[str, tuple[Model, tuple[int, int, int]]]:
    """The networks of attacks.py and their images' shapes."""
    small = dataclasses.replace(load_study(CIFAR10).model, widths=[16, 32, 64, 128])
    return {"digits": (load_study(STUDIES["digits"]).model, (1, 8, 8)),
            "mnist": (load_study(STUDIES["mnist"]).model, (1, 28, 28)),
            "cifar10": (small, (3, 32, 32))}


def seconds(step: Step) -> float:
    """Of one call, the mean over many, by the device's own clock."""
    for _ in range(3):
        step()
    calls, taken = 1, 0.0
    while taken < LEAST:
        calls *= 2
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(calls):
            step()
        end.record()
        torch.cuda.synchronize()
        taken = start.elapsed_time(end) / 1000
    return taken / calls


def peak(dtype: torch.dtype) -> float:
    """Operations a second of a product of two large matrices."""
    a, b = torch.randn(2, SIDE, SIDE, device="cuda", dtype=dtype)
    return 2 * SIDE**3 / seconds(lambda: a @ b)


class Pgd:
    """One step of PGD after the other on random images, in place, so that a graph can repeat it."""

    def __init__(self, network: nn.Module, shape: tuple[int, int, int], images: int,
                 dtype: torch.dtype, device: str):
        self.network, self.dtype, self.device = network, dtype, device
        self.layout = torch.channels_last if dtype == torch.bfloat16 else torch.contiguous_format
        self.network.to(memory_format=self.layout)
        self.x = torch.rand(images, *shape, device=device).to(memory_format=self.layout)
        self.y = torch.randint(10, (images,), device=device)
        self.low, self.high = (self.x - EPS).clamp(0, 1), (self.x + EPS).clamp(0, 1)

    def logits(self, x: Tensor) -> Tensor:
        """Logits [n, 10] in float32."""
        low = self.dtype == torch.bfloat16
        # Weights do not change: a cache of their low precision would only break graphs.
        with torch.autocast(self.device, torch.bfloat16, enabled=low, cache_enabled=False):
            return self.network(x)[0].float()

    def step(self) -> None:
        """Moves the images."""
        _, gradient = input_gradient(self.logits, self.x, self.y, cross_entropy)
        moved = torch.add(self.x, gradient.sign(), alpha=EPS / 10).clamp(self.low, self.high)
        self.x.copy_(moved)

    def operations(self) -> int:
        """Of the matrix products and convolutions of one step."""
        x = self.x.clone().requires_grad_()
        with FlopCounterMode(display=False) as counter:     # it knows backward(), not grad()
            cross_entropy(self.logits(x), self.y).sum().backward()
        return counter.get_total_flops()


def graphed(step: Step) -> Step:
    """The step as a CUDA graph. Raises RuntimeError where it cannot be captured."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def lines(name: str, model: Model, shape: tuple[int, int, int], peaks: dict[str, float]) -> list:
    """Every precision, number of images, and way to launch, of one network."""
    found = []
    for precision, dtype in DTYPES.items():
        for images in IMAGES:
            network = build(model, shape, 10, seed=0).eval().requires_grad_(False).to("cuda")
            attack = Pgd(network, shape, images, dtype, "cuda")
            work = attack.operations()
            for launch in ("plain", "graph"):
                try:
                    taken = seconds(attack.step if launch == "plain" else graphed(attack.step))
                except RuntimeError as error:
                    print(f"{name}, {precision}, {images} images: no graph: {error}")
                    continue
                found.append({
                    "network": name, "precision": precision, "images": images, "launch": launch,
                    "image_steps_a_second": images / taken, "teraflops": work / taken / 1e12,
                    "of_peak": work / taken / peaks[precision]})
    return found


def main() -> None:
    if not torch.cuda.is_available():
        print("no CUDA device")
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    peaks = {precision: peak(dtype) for precision, dtype in DTYPES.items()}
    found = []
    for name, (model, shape) in networks().items():
        found += lines(name, model, shape, peaks)
    table = pd.DataFrame(found)
    table.insert(0, "device", torch.cuda.get_device_name())
    print(table.to_string(index=False, float_format="%.4g"))
    for precision, operations in peaks.items():
        print(f"a matrix product in {precision}: {operations / 1e12:.1f} teraflops")
    write_table(REPORTS / "gpu.csv", table)


if __name__ == "__main__":
    main()
