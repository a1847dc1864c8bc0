"""Images and models that are refused: by their file, before anything is computed or written."""

import copy
import re
import shutil
from pathlib import Path

import pytest
import torch
from refusals import refusal
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_study import edit

import evaluate
import prepare
import represent
import score
import train
import transfer
from tla.train import checkpoints, data
from tla.train.checkpoints import save_model

IMAGES = Path("data/digits/prepared/images.safetensors")
MODELS = [Path(f"data/digits/models/at/seed-{seed}.safetensors") for seed in (0, 1)]
AT = ["params.yaml", "--model", "at"]
PREPARE = "; run dvc repro prepare$"
PULL = "; run dvc repro, or dvc pull where it is stored$"
RETRAIN = "; retrain it with dvc repro$"


@pytest.fixture
def study(study):
    study.train(study.params())
    return study


def flip(path):
    """Change one bit of the last tensor."""
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def folder(path):
    path.unlink()
    path.mkdir()


def tensors(path):
    """Copies: the file itself is mapped into memory."""
    return {name: values.clone() for name, values in load_file(path).items()}


def foreign(path):
    """The same tensors as any other program stores them."""
    save_file(tensors(path), path)


def pickled(path):
    torch.save(tensors(path), path)


DAMAGES = {
    "missing": (Path.unlink, "no such file"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged, or no file of this project"),
    "text": (lambda path: path.write_text("<html>not found"), "is damaged, or no file"),
    "cut short": (cut, "is damaged, or no file of this project"),
    "a bit": (flip, "is damaged, or no file of this project"),
    "a folder": (folder, "is damaged, or no file of this project"),
    "foreign": (foreign, "is damaged, or no file of this project"),
    "a pickle": (pickled, "is damaged, or no file of this project"),
}
damaged = pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)


# Images

@pytest.mark.parametrize("main", [train.main, evaluate.main], ids=["train", "evaluate"])
def test_damaged_images_are_refused(main, study):
    cut(IMAGES)
    assert re.search(f"^{IMAGES}: is damaged.*{PREPARE}", refusal(main, *AT))


@pytest.mark.parametrize(("changes", "words"), [
    ({"data.validation": 0.3}, "data.validation = 0.2, today it is 0.3"),
    ({"data.split_seed": 9}, "data.split_seed = 0, today it is 9"),
    ({"seeds": [1, 0], "evaluate.seeds": {}}, "seeds: the values must increase"),
    ({"seeds": [1, 2], "evaluate.seeds": {}, "tune.seeds": [1]}, "seeds = \\[0, 1\\], today"),
    ({"data.limit.test": 30}, "data.limit.test = None, today it is 30")], ids=str)
def test_images_that_were_prepared_otherwise_are_refused(changes, words, study):
    edit("params.yaml", changes)
    assert re.search(words, refusal(train.main, *AT))


@pytest.mark.parametrize(("changes", "words"), [
    ({"data.folds": 2000}, "data.folds: 2000 are more than the images of some class"),
    ({"data.folds": 2, "seeds": [0, 1, 2]}, "data.folds: 2 folds are too few to test 3 seeds on"),
    ({"data.validation": 5000}, "data.validation: 5000 of 1437 images cannot be held out"),
    ({"data.validation": 3}, "data.validation: 3 of 1437 images cannot be held out"),
    ({"data.validation": 1e-9}, "data.validation: 1e-09 of 1437 images cannot be held out"),
    ({"data.limit.train": 5}, "data.limit.train: leaves a class without training images")], ids=str)
def test_parts_that_the_images_do_not_allow_are_refused(changes, words, study):
    edit("params.yaml", {"evaluate.seeds": {}} | changes)
    assert re.search(f"^params.yaml: {words}", refusal(prepare.main, "params.yaml"))


RAW = {
    "MNIST cut short": ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz", "is altered or cut short"),
    "Tiny ImageNet": ("tiny-imagenet", "tiny-imagenet-200/words.txt", "has 0 training and 0 valid"),
}


@pytest.mark.parametrize(("source", "file", "words"), RAW.values(), ids=RAW)
def test_raw_images_that_are_altered_are_refused(source, file, words, study):
    edit("params.yaml", {"data.source": source, "data.folds": None, "data.validation": 30})
    path = data.RAW / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half of it")
    assert re.search(words, refusal(prepare.main, "params.yaml"))


# More than the images

@pytest.mark.parametrize("main", [evaluate.main, represent.main], ids=["evaluate", "represent"])
def test_numbers_beyond_the_images_are_refused(main, study):
    edit("params.yaml", {"detect.components": 129})
    assert re.search("^params.yaml: detect.components: 129 are more than the 128.*; lower it$",
                     refusal(main, *AT))


UNFIT = {
    "one width of a convnet": ({"model.architecture": "convnet", "model.widths": [4]},
                               "model.widths: 1 values do not fit images of 8 x 8 pixels"),
    "too many widths": ({"model.architecture": "convnet", "model.widths": [4] * 6},
                        "model.widths: 6 values do not fit images of 8 x 8 pixels"),
    "widths of a ResNet": ({"model.architecture": "preact-resnet18", "model.widths": [4]},
                           "model.widths: this architecture needs 4 values, not 1"),
    "channels": ({"model.mean": [0.1] * 3, "model.std": [1.0] * 3}, "need 1 values each, one per"),
    "half of a normalisation": ({"model.mean": None}, "model.mean, model.std: need 1 values"),
    "a pool": ({"mining.batch": 10**6}, "mining.batch: 1000000 are more than the 128 training"),
    "memory": ({"model.widths": [10**6, 10**6]}, "the work does not fit into memory; lower train"),
    "weights": ({"train.weight_decay": 1e6, "train.optimizer": "sgd", "train.epochs": 2},
                "methods.tla.lr: 0.01 lets the loss of tla seed 0 become (nan|inf).*try a lower"),
    "a learning rate": ({"methods.tla.lr": 100.0, "train.optimizer": "sgd", "train.momentum": 1.0,
                         "model.widths": [64] * 8, "train.epochs": 9},
                        "methods.tla.lr: 100.0 lets the loss of tla seed 0 become (nan|inf)"),
}


@pytest.mark.parametrize(("changes", "words"), UNFIT.values(), ids=UNFIT)
def test_what_cannot_be_trained_is_refused(changes, words, study, monkeypatch):
    monkeypatch.setattr(train, "map_parallel", lambda function, items, *_, **__: [
        function(item) for item in items])
    edit("params.yaml", {"mining.batch": 20} | changes)
    assert re.search(words, refusal(train.main, "params.yaml", "--model", "tla"))


# Models

# One stage asks all networks before it begins, the other each as its turn comes.
looking = pytest.mark.parametrize(("main", "seed"), [(evaluate.main, 1), (represent.main, 0)],
                                  ids=["evaluate", "represent"])


@damaged
def test_damaged_models_are_refused(damage, words, study):
    damage(MODELS[1])
    assert re.search(f"^{MODELS[1]}: {words}.*{PULL}", refusal(evaluate.main, *AT))


@pytest.mark.parametrize(("main", "arguments", "seed"), [
    (represent.main, AT, 0), (transfer.main, AT[:1], 1)], ids=["represent", "transfer"])
def test_damaged_models_are_refused_by_every_stage_that_reads_them(main, arguments, seed, study):
    cut(MODELS[seed])
    assert re.search(f"^{MODELS[seed]}: is damaged.*{PULL}", refusal(main, *arguments))


@pytest.mark.parametrize(("damage", "words"), [(cut, "is damaged"), (folder, "no such file")])
def test_damaged_models_are_refused_where_one_is_scored(damage, words, study):
    damage(MODELS[1])
    assert re.search(f"^{MODELS[1]}: {words}", refusal(score.main, "--model", str(MODELS[1])))


def spoilt(change):
    """Saves the network with another head as the model that is asked for."""
    def save(study, seed):
        network = copy.deepcopy(study.network)
        change(network.head)
        save_model(MODELS[seed], network, study.params(), "at", seed, study.data)
    return save


def undecided(head):
    """The same logits whatever it sees: a tenth for each class."""
    head.weight.data.zero_()
    head.bias.data.fill_(0.1)


def wider(study, seed):
    """Tensors of another shape under what the file said of those before."""
    with safe_open(MODELS[seed], "pt") as file:
        about = file.metadata()
    weights = tensors(MODELS[seed])
    weights["head.weight"] = torch.zeros(10, len(weights["head.weight"][0]) + 1)
    save_file(weights, MODELS[seed], about)


def copied(source):
    return lambda study, seed: shutil.copy(source(seed), MODELS[seed])


def edited(**changes):
    return lambda study, seed: edit("params.yaml", {
        key.replace("__", "."): value for key, value in changes.items()})


OTHERS = {
    "NaN": (spoilt(lambda head: head.bias.data.fill_(float("nan"))),
            f"holds weights that are not finite: head.bias{RETRAIN}"),
    "probabilities": (spoilt(undecided), "the model returned probabilities; attacks need logits"),
    "another shape": (wider, f"is damaged, or no file of this project{PULL}"),
    "another seed": (copied(lambda seed: MODELS[1 - seed]), f"with seed = [01], today .*{RETRAIN}"),
    "another model": (copied(lambda seed: str(MODELS[seed]).replace("/at/", "/alp/")),
                      f"was trained with name = alp, today it is at{RETRAIN}"),
    "other widths": (edited(model__widths=[24, 17]), r"with model.widths = \[24, 16\], today"),
    "another eps": (edited(attack__eps=0.2), f"with attack.eps = 0.15, today it is 0.2{RETRAIN}"),
    "another rate": (edited(methods__at__lr=0.02), f"parameters.lr = 0.01, today .*0.02{RETRAIN}"),
    "another loop": (edited(train__epochs=31), f"train.epochs = 30, today it is 31{RETRAIN}"),
}


@pytest.mark.parametrize(("change", "words"), OTHERS.values(), ids=OTHERS)
@looking
def test_models_of_something_else_are_refused(main, seed, change, words, study):
    change(study, seed)
    found = refusal(main, *AT)
    assert re.search(words, found) and found.startswith("data/digits/models/at/seed-")


def test_models_of_other_code_are_refused(study, monkeypatch):
    monkeypatch.setattr(checkpoints, "training_code", lambda *_: "other")
    assert re.search(f"was trained with code = .*{RETRAIN}", refusal(evaluate.main, *AT))
