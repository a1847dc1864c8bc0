"""Stopped work continues to the same bits, and never from another configuration."""

import copy
import gc
import weakref

import pytest
import torch

from tla.train.data import TRAIN, VALIDATION, Dataset, Split
from tla.train.resume import Resume
from tla.train.training import Trainer, train_model


class Pixels(Dataset):
    """Random images instead of a prepared file."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.rand(60, 1, 8, 8, generator=generator)
        self.y = torch.arange(60) % 10
        self.shape, self.classes = (1, 8, 8), 10

    def split(self, position, part):
        rows = slice(0, 40) if part == TRAIN else slice(40, 60)
        assert part in (TRAIN, VALIDATION)
        return Split(self.x[rows], self.y[rows], torch.arange(60)[rows])


@pytest.fixture
def params(make_params):
    return make_params({"train.epochs": 3, "train.validate_every": 1, "train.batch": 10,
                        "mining.batch": 8, "train.crop_padding": 1, "train.flip": True})


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def weights(network):
    return torch.cat([p.flatten() for p in network.parameters()])


@pytest.mark.parametrize("name", ["at", "tla"])
@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_stopped_training_continues_to_the_same_bits(params, monkeypatch, name, stop_after):
    def run(resume):
        return train_model(Trainer(params, name, 0, 0, Pixels()), resume, iter)

    whole, log = run(Resume("whole", "key"))

    epoch, ran = Trainer.epoch, []

    def interrupted(self):
        if len(ran) == stop_after:
            raise KeyboardInterrupt
        ran.append(epoch(self))

    monkeypatch.setattr(Trainer, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(Resume("parts", "key", seconds=0))
    monkeypatch.setattr(Trainer, "epoch", epoch)
    parts, log_of_parts = run(Resume("parts", "key"))

    assert len(ran) == stop_after
    assert torch.equal(weights(whole), weights(parts))
    assert log == log_of_parts


def test_a_finished_seed_is_not_trained_again_before_its_stage_ends(params, monkeypatch):
    resume = Resume("x", "key", seconds=0)
    first, _ = train_model(Trainer(params, "um", 0, 0, Pixels()), resume, iter)
    monkeypatch.setattr(Trainer, "epoch", None)
    again, _ = train_model(Trainer(params, "um", 0, 0, Pixels()), resume, iter)
    assert torch.equal(weights(first), weights(again))


def test_forgotten_work_leaves_no_file():
    resume = Resume("x", "key", seconds=0)
    resume.keep(dict)
    resume.forget()
    assert not list(resume.path.parent.iterdir())


def test_state_of_another_configuration_is_not_used():
    Resume("x", "old", seconds=0).keep(lambda: {"epochs_done": 1})
    assert Resume("x", "new").load(torch.device("cpu")) is None
    assert Resume("x", "old").load(torch.device("cpu")) == {"epochs_done": 1}


def test_state_is_not_saved_before_its_time():
    Resume("x", "key", seconds=1000).keep(lambda: {})
    assert Resume("x", "key").load(torch.device("cpu")) is None


def test_a_loaded_state_is_complete(params):
    one, other = (Trainer(params, "tla", 0, 0, Pixels()) for _ in range(2))
    one.epoch()
    other.load_state(copy.deepcopy(one.state()))
    one.epoch()
    other.epoch()
    assert one.log == other.log
    assert torch.equal(weights(one.network), weights(other.network))


def test_the_epochs_are_shown_from_where_a_training_continues(params):
    """`watch` gets every epoch that is left, and the training is over when it is."""
    shown = []

    def watch(epochs):
        shown.append(list(epochs))
        return epochs

    trainer = Trainer(params, "um", 0, 0, Pixels())
    trainer.epoch()
    resume = Resume("x", "key", seconds=0)
    resume.keep(trainer.state)
    train_model(Trainer(params, "um", 0, 0, Pixels()), resume, watch)
    assert shown == [[1, 2]]


@pytest.mark.parametrize("name", ["at", "tla"])
def test_a_trainer_that_nobody_needs_is_gone_at_once(params, name):
    """It holds a copy of the training images; dozens of trainings may follow in one process."""
    gc.disable()
    try:
        trainer = Trainer(params, name, 0, 0, Pixels())
        trainer.epoch()
        left = weakref.ref(trainer)
        del trainer
        assert left() is None
    finally:
        gc.enable()
