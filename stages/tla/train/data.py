"""Data sets as one file of images, labels and parts, the same layout for every source.

`images.safetensors` holds x uint8 [n, c, h, w], scale (the pixel value that means 1), y int64 [n],
idx int64 [n] (row in the original data set) and part uint8 [seeds, n], and says whose they are.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tla.params import Data, Params, UserError
from tla.train.stored import difference, packed, read_tensors

TRAIN, VALIDATION, TEST, UNUSED = range(4)
PARTS = ("train", "validation", "test", "unused")
RAW = Path("data", "raw")
# MD5 of the extracted files: torchvision checks the archives only, and not once they are extracted.
MNIST_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
TINY_IMAGENET = (100_000, 10_000)   # training and validation images
REMEDY = "run dvc repro prepare"


@dataclass(frozen=True)
class Raw:
    """A source as it comes; its last `test` rows are the official test set."""

    x: np.ndarray   # uint8 [n, c, h, w], pixels up to `scale`
    y: np.ndarray   # classes [n]
    scale: float
    test: int


@dataclass(frozen=True)
class Split:
    """One part of the data for one seed."""

    x: Tensor       # [n, c, h, w] in [0, 1]
    y: Tensor       # [n]
    idx: Tensor     # [n] row in the original data set

    def take(self, rows: Tensor | slice) -> "Split":
        """The images of these rows."""
        return Split(self.x[rows], self.y[rows], self.idx[rows])


def prepared(raw: Raw, params: Params) -> tuple[bytes, np.ndarray]:
    """The content of a study's images.safetensors, and the part of each image for each seed."""
    part = split_parts(raw, params.seeds, params.data)
    arrays = {"x": raw.x, "scale": np.float32(raw.scale), "y": raw.y.astype(np.int64),
              "idx": np.arange(len(raw.y)), "part": part}
    tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
    return packed(tensors, _origin(params)), part


def _origin(params: Params) -> dict:
    """All that decides the prepared images, as plain data."""
    return json.loads(json.dumps({"dataset": params.dataset, "seeds": params.seeds,
                                  "data": dataclasses.asdict(params.data)}))


class Dataset:
    """A prepared data set on a device; `split(position, part)` is one part for one seed.

    Raises UserError where the folder holds none, or one that was prepared otherwise.
    """

    def __init__(self, folder: Path, params: Params, device: torch.device):
        path = folder / "images.safetensors"
        arrays, about = read_tensors(path, REMEDY)
        if found := difference(about, _origin(params)):
            raise UserError(f"{path}: was prepared with {found}; {REMEDY}")
        self.part = arrays["part"]
        self.x = arrays["x"].to(device).float() / arrays["scale"].to(device)
        self.y, self.idx = arrays["y"].to(device), arrays["idx"].to(device)
        self.shape: tuple[int, int, int] = tuple(self.x.shape[1:])
        self.classes = int(self.y.max()) + 1

    def split(self, position: int, part: int) -> Split:
        """Part TRAIN, VALIDATION or TEST for the seed at `position` in the list of seeds."""
        rows = torch.nonzero(self.part[position] == part).squeeze(1).to(self.x.device)
        return Split(self.x, self.y, self.idx).take(rows)


def digits() -> Raw:
    """scikit-learn's 1,797 handwritten digits, 8x8 pixels of 0 to 16."""
    from sklearn.datasets import load_digits
    bunch = load_digits()
    return Raw(bunch.images[:, None].astype(np.uint8), bunch.target, 16, 0)


def mnist() -> Raw:
    """MNIST, 60,000 training and 10,000 test images of 28x28, from data/raw or downloaded there."""
    from torchvision.datasets import MNIST
    _refuse_altered(RAW / "MNIST" / "raw", MNIST.resources + list(MNIST_FILES.items()))
    x, y = _torchvision(MNIST, "MNIST/raw/train-images-idx3-ubyte.gz and its three companions")
    return Raw(x[:, None], y, 255, 10_000)


def cifar10() -> Raw:
    """CIFAR-10, 50,000 training and 10,000 test images of 3x32x32, from data/raw or downloaded."""
    from torchvision.datasets import CIFAR10
    _refuse_altered(RAW / CIFAR10.base_folder, CIFAR10.train_list + CIFAR10.test_list)
    x, y = _torchvision(CIFAR10, "cifar-10-batches-py/ (or cifar-10-python.tar.gz)")
    return Raw(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y, 255, 10_000)


def tiny_imagenet() -> Raw:
    """Tiny ImageNet, 100,000 training images of 3x64x64, from data/raw.

    Its 10,000 validation images are the test set. Raises UserError where one is missing.
    """
    folder = RAW / "tiny-imagenet-200"
    train = sorted(folder.glob("train/*/images/*.JPEG"))
    lines = _annotations(folder / "val" / "val_annotations.txt")
    if (len(train), len(lines)) != TINY_IMAGENET:
        raise UserError(f"{folder}: has {len(train)} training and {len(lines)} validation images, "
                        f"not {TINY_IMAGENET}; extract tiny-imagenet-200.zip there")
    named = [(path, path.parts[-3]) for path in train]
    wnids = sorted({wnid for _, wnid in named})
    named += [(folder / "val" / "images" / line[0], line[1]) for line in lines]
    if unknown := sorted({wnid for _, wnid in named} - set(wnids)):
        raise UserError(f"{folder / 'val'}: names classes without training images: {unknown[0]}")
    x = np.stack([_pixels(path) for path, _ in named])
    y = np.array([wnids.index(wnid) for _, wnid in named])
    return Raw(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y, 255, len(lines))


def _pixels(path: Path) -> np.ndarray:
    """An image of Tiny ImageNet, uint8 [64, 64, 3]."""
    from torchvision.datasets.folder import pil_loader
    try:
        pixels = np.asarray(pil_loader(path))
    except OSError:
        pixels = None
    if pixels is None or pixels.shape != (64, 64, 3):
        raise UserError(f"{path}: is no image of 64 x 64 pixels; extract tiny-imagenet-200.zip "
                        "again")
    return pixels


def _annotations(path: Path) -> list[list[str]]:
    """File name, class and box of each validation image of Tiny ImageNet; none without the file."""
    if not path.exists():
        return []
    lines = path.read_text(errors="replace").splitlines()
    return [line.split("\t") for line in lines if "\t" in line]


def _refuse_altered(folder: Path, files: list[tuple[str, str]]) -> None:
    """Raise UserError for a file of that name that is there with another MD5."""
    for name, md5 in files:
        path = folder / name
        if path.exists() and hashlib.md5(path.read_bytes()).hexdigest() != md5:
            raise UserError(f"{path}: is altered or cut short; delete it and run again")


def _torchvision(kind, files: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and classes of the training and then the test set, downloaded if absent.

    torchvision checks every archive's MD5. Raises UserError where there is no such set.
    """
    try:
        train = kind(RAW, train=True, download=True)
        test = kind(RAW, train=False, download=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{RAW}: cannot download or read it ({reason}); "
                        f"put {files} there") from None
    x = np.concatenate([np.asarray(train.data), np.asarray(test.data)])
    y = np.concatenate([np.asarray(train.targets), np.asarray(test.targets)])
    return x, y


SOURCES = {"digits": digits, "mnist": mnist, "cifar10": cifar10, "tiny-imagenet": tiny_imagenet}


def split_parts(raw: Raw, seeds: list[int], data: Data) -> np.ndarray:
    """part uint8 [seeds, n]: TRAIN, VALIDATION, TEST or UNUSED per seed and image.

    With folds, seed number k tests on stratified fold k, so no image is tested twice, and its
    validation images are drawn from the rest with that seed. Without, all seeds share the official
    test set and one draw of validation images. Raises UserError where there are too few images.
    """
    parts = np.full((len(seeds), len(raw.y)), UNUSED, np.uint8)
    for row, (rest, test, seed) in zip(parts, _cuts(raw, seeds, data), strict=True):
        train, held = _held_out(raw.y, rest, data.validation, seed)
        row[train[:data.limit.train]] = TRAIN
        row[held[:data.limit.validation]] = VALIDATION
        row[test[:data.limit.test]] = TEST
        if len(np.unique(raw.y[row == TRAIN])) < len(np.unique(raw.y)):
            raise UserError("data.limit.train: leaves a class without training images; raise it")
    return parts


def _held_out(y: np.ndarray, rows: np.ndarray, share: float | int,
              seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out, both with every class."""
    from sklearn.model_selection import train_test_split
    try:
        return train_test_split(rows, test_size=share, stratify=y[rows], random_state=seed)
    except ValueError as error:
        raise UserError(f"data.validation: {share} of {len(rows)} images cannot be held out: "
                        f"{error}") from None


def _cuts(raw: Raw, seeds: list[int], data: Data) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Rows to train on, rows to test on, and what draws the validation images, for each seed."""
    from sklearn.model_selection import StratifiedKFold
    if data.folds is None:
        if not raw.test:
            raise UserError(f"data.folds: null, but {data.source} has no test images of its own; "
                            "give a number of folds")
        rows, first_test = np.arange(len(raw.y)), len(raw.y) - raw.test
        return [(rows[:first_test], rows[first_test:], data.split_seed)] * len(seeds)
    if len(seeds) > data.folds:
        raise UserError(f"data.folds: {data.folds} folds are too few to test {len(seeds)} seeds on")
    if data.folds > np.bincount(raw.y).min():
        raise UserError(f"data.folds: {data.folds} are more than the images of some class")
    folds = StratifiedKFold(data.folds, shuffle=True, random_state=data.split_seed)
    cuts = []
    for seed, (rest, test) in zip(seeds, folds.split(raw.y, raw.y), strict=False):
        cuts.append((rest, test, seed))
    return cuts


def augment(x: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Random crops of zero-padded images and mirror images, each image its own, shape as x."""
    if padding:
        x = _crop(x, padding, generator)
    if flip:
        x = _mirror(x, generator)
    return x


def _crop(x: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    n, _, height, width = x.shape
    device = x.device
    padded = torch.nn.functional.pad(x, [padding] * 4)
    top, left = torch.randint(2 * padding + 1, (2, n), generator=generator, device=device)
    rows = top[:, None] + torch.arange(height, device=device)
    columns = left[:, None] + torch.arange(width, device=device)
    images = torch.arange(n, device=device)[:, None, None]
    crops = padded.movedim(1, -1)[images, rows[:, :, None], columns[:, None, :]]
    return crops.movedim(-1, 1)


def _mirror(x: Tensor, generator: torch.Generator) -> Tensor:
    mirrored = torch.rand(len(x), generator=generator, device=x.device) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)
