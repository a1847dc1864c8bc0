"""Stopped work continues to the same bits, and never from another configuration."""

import copy

import pytest
import torch
from test_pipeline import edited

from tla.core.data import TRAIN, VALIDATION, Dataset, Split
from tla.core.resume import Resume
from tla.core.training import Trainer, train_model
from tla.params import check_params, parse_model


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
def params():
    return check_params(edited({"train.epochs": 3, "train.validate_every": 1, "train.batch": 10, "mining.batch": 8,
                                "train.crop_padding": 1, "train.flip": True}), "params.yaml")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def weights(network):
    return torch.cat([p.flatten() for p in network.parameters()])


@pytest.mark.parametrize("name", ["at", "tla-b8"])
@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_stopped_training_continues_to_the_same_bits(params, monkeypatch, name, stop_after):
    model, data = parse_model(name, params), Pixels()
    whole, log = train_model(params, model, 0, 0, data, Resume("whole", "key"))

    epoch, ran = Trainer.epoch, []

    def interrupted(self):
        if len(ran) == stop_after:
            raise KeyboardInterrupt
        ran.append(epoch(self))

    monkeypatch.setattr(Trainer, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_model(params, model, 0, 0, data, Resume("parts", "key", seconds=0))
    monkeypatch.setattr(Trainer, "epoch", epoch)
    parts, log_of_parts = train_model(params, model, 0, 0, data, Resume("parts", "key"))

    assert len(ran) == stop_after
    assert torch.equal(weights(whole), weights(parts))
    assert log == log_of_parts


def test_a_finished_seed_is_not_trained_again_before_its_stage_ends(params, monkeypatch):
    model, resume = parse_model("um", params), Resume("x", "key", seconds=0)
    first, _ = train_model(params, model, 0, 0, Pixels(), resume)
    monkeypatch.setattr(Trainer, "epoch", None)
    again, _ = train_model(params, model, 0, 0, Pixels(), resume)
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
    model, data = parse_model("tla-b8", params), Pixels()
    one, other = (Trainer(params, model, 0, 0, data) for _ in range(2))
    one.epoch()
    other.load_state(copy.deepcopy(one.state()))
    one.epoch(), other.epoch()
    assert one.log == other.log
    assert torch.equal(weights(one.network), weights(other.network))

