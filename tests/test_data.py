"""Sources refuse what is missing, cut short or altered; splits are those of the official sets."""

import dataclasses
import gzip
import shutil
import socket

import numpy as np
import pytest
import torch
from PIL import Image

from tla.params import Limit, UserError
from tla.train import data
from tla.train.data import (
    SOURCES,
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    Dataset,
    Raw,
    augment,
    split_parts,
)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """An empty data/raw on a machine without network."""
    def refuse(*arguments):
        raise OSError("no network")
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(data, "RAW", tmp_path)
    return tmp_path


def refusal(source):
    with pytest.raises(UserError) as refused:
        SOURCES[source]()
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("source", "file"), [
    ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz"), ("cifar10", "cifar-10-batches-py"),
    ("tiny-imagenet", "tiny-imagenet-200")])
def test_without_files_and_network_one_line_names_what_to_put_where(source, file, raw):
    message = refusal(source)
    assert file in message and str(raw) in message


@pytest.mark.parametrize(("source", "file"), [
    ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte"),
    ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz"),
    ("cifar10", "cifar-10-batches-py/data_batch_3"), ("cifar10", "cifar-10-batches-py/test_batch")])
def test_an_altered_file_is_refused_by_name(source, file, raw):
    path = raw / file
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(b"half of it"))
    assert str(path) in refusal(source)


def test_tiny_imagenet_reads_both_folders(raw, monkeypatch):
    monkeypatch.setattr(data, "TINY_IMAGENET", (4, 2))
    folder = raw / "tiny-imagenet-200"
    colours = {}

    def draw(path, colour):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), colour).save(path, quality=100)
        colours[path.name] = colour

    for k, wnid in enumerate(["n02", "n01"]):
        for i in range(2):
            draw(folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", (100 * k + 50 * i, 0, 0))
    for i in range(2):
        draw(folder / "val" / "images" / f"val_{i}.JPEG", (0, 0, 100 * i))
    (folder / "val" / "val_annotations.txt").write_text(
        "val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n")
    found = SOURCES["tiny-imagenet"]()
    assert found.x.shape == (6, 3, 64, 64) and found.x.dtype == np.uint8 and found.test == 2
    assert found.y.tolist() == [0, 0, 1, 1, 1, 0]
    assert abs(int(found.x[0, 0, 5, 5]) - 100) < 3 and abs(int(found.x[5, 2, 5, 5]) - 100) < 3


def test_official_sets_share_one_split_over_seeds(params):
    raw = Raw(np.zeros((120, 1, 2, 2), np.uint8), np.arange(120) % 10, 255, 20)
    settings = dataclasses.replace(params.data, source="mnist", folds=None, validation=30,
                                   limit=dataclasses.replace(params.data.limit, train=50))
    parts = split_parts(raw, [0, 1, 2], settings)
    assert (parts == parts[0]).all()
    assert (parts[0, 100:] == TEST).all() and not (parts[0, :100] == TEST).any()
    counts = [(parts[0] == part).sum() for part in (TRAIN, VALIDATION, TEST, UNUSED)]
    assert counts == [50, 30, 20, 20]


def test_mnist_from_real_files_where_they_are_at_hand():
    if not (data.RAW / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz").exists():
        pytest.skip("MNIST is not in data/raw")
    found = SOURCES["mnist"]()
    assert found.x.shape == (70_000, 1, 28, 28) and found.test == 10_000
    assert np.bincount(found.y[-10_000:]).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.as_tensor(found.x[0]).sum() == 27525      # the first training image, a five


# Prepared files

def opened(folder, params):
    with pytest.raises(UserError) as refused:
        Dataset(folder, params, torch.device("cpu"))
    message = str(refused.value)
    assert "\n" not in message and message.endswith("; run dvc repro prepare")
    return message


def test_missing_images_are_named(tmp_path, params):
    assert "images.safetensors: no such file" in opened(tmp_path, params)


@pytest.mark.parametrize("place", [0, 50, 5000, -1])
def test_damaged_images_are_named(place, dataset, tmp_path, params):
    path = tmp_path / "images.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert "images.safetensors: is damaged" in opened(tmp_path, params)


@pytest.mark.parametrize(("changes", "said"), [
    ({"seeds": [1, 2], "tune.seeds": [1], "evaluate.seeds": {}}, "seeds = [0, 1, 2, 3, 4]"),
    ({"data.validation": 0.3}, "data.validation = 0.2, today it is 0.3"),
    ({"data.limit.train": 50}, "data.limit.train = None"),
    ({"dataset": "others"}, "dataset = digits, today it is others")], ids=str)
def test_images_that_were_prepared_otherwise_are_refused(
        changes, said, dataset, tmp_path, make_params):
    (tmp_path / "prepared").mkdir()
    shutil.move(tmp_path / "images.safetensors", tmp_path / "prepared")
    assert f"was prepared with {said}" in opened(tmp_path / "prepared", make_params(changes))


@pytest.mark.parametrize(("changes", "key"), [
    ({"source": "mnist", "folds": None}, "data.folds: null"), ({"folds": 3}, "data.folds: 3"),
    ({"folds": 100}, "data.folds: 100"), ({"validation": 3}, "data.validation: 3"),
    ({"validation": 900}, "data.validation: 900"),
    ({"limit": Limit(train=3, validation=None, test=None)}, "data.limit.train")], ids=str)
def test_parts_for_which_there_are_too_few_images_are_refused(changes, key, params):
    raw = Raw(np.zeros((200, 1, 2, 2), np.uint8), np.arange(200) % 10, 255, 0)
    with pytest.raises(UserError, match=key):
        split_parts(raw, params.seeds, dataclasses.replace(params.data, **changes))


# Crops and mirror images

def pixels(n=600):
    """Images of 2x3x4 whose values are all different, and none 0."""
    return torch.arange(1.0, 24 * n + 1).view(n, 2, 3, 4)


def test_a_crop_is_a_window_of_the_padded_image_anywhere_in_it():
    x, seen = pixels(), set()
    cropped = augment(x, 2, False, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, [2] * 4)
    for image, crop in zip(padded, cropped, strict=True):
        places = [(top, left) for top in range(5) for left in range(5)
                  if torch.equal(image[:, top:top + 3, left:left + 4], crop)]
        assert len(places) >= 1     # of a corner of nothing there can be more
        seen |= {places[0]}
    assert len(seen) == 25


def test_half_of_the_images_are_mirrored_from_left_to_right():
    x = pixels()
    flipped = augment(x, 0, True, torch.Generator().manual_seed(0))
    kept = (flipped == x).flatten(1).all(1)
    assert torch.equal(flipped[~kept], x[~kept].flip(-1))
    assert 0.4 < kept.double().mean() < 0.6


def test_images_are_left_alone_where_neither_is_asked_for():
    x = pixels(3)
    assert torch.equal(augment(x, 0, False, torch.Generator()), x)
