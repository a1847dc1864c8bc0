"""Peak memory of PGD-3 on MNIST images: `python tests/benchmarks/memory.py IMAGES BATCH` -> MiB.

A process of its own, without the libraries that we compare with: growth.py starts it.
"""

import argparse
import resource

import torch
from common import Subject, mnist, settle

from tla.measure.suite import attack_columns
from tla.params import Attack
from tla.train.data import Split


def suite(subject: Subject, images: int, batch: int, steps: int) -> None:
    """PGD as the suite runs it, `batch` at a time, on the subject's images again and again."""
    rows = torch.arange(images) % len(subject.y)
    split = Split(subject.x[rows], subject.y[rows], rows)
    attack = Attack("gradient", "cross_entropy", [steps], 0.1, True, 1, "none", 0.0)
    attack_columns(subject.network, split, "pgd", attack, eps=subject.eps, batch=batch,
                   precision=subject.precision, seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=int)
    parser.add_argument("batch", type=int)
    arguments = parser.parse_args()
    settle()
    suite(mnist(), arguments.images, arguments.batch, 3)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
