"""Which source a result hangs on: what its modules import, and nothing else."""

import shutil
from pathlib import Path

import pytest

from tla import sources
from tla.params import load_params
from tla.train.methods import METHODS, training_code

LIBRARY = Path(sources.__file__).parent


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The library in a folder of its own, where it may be edited."""
    shutil.copytree(LIBRARY, tmp_path / "tla", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "LIBRARY", tmp_path)
    monkeypatch.setattr(sources, "NEUTRAL", tmp_path / "tla" / "params.py")
    return tmp_path / "tla"


def edit(path):
    path.write_text(path.read_text() + "\n# another line\n")


@pytest.fixture
def codes(params):
    def now():
        return {name: training_code(params, name) for name in params.models}
    return now


@pytest.mark.parametrize(("file", "models"), [
    ("train/methods/alp.py", {"alp"}), ("train/methods/tla_sa.py", {"tla-sa"}),
    ("train/methods/tla.py", {"tla", "tla-b1", "tla-b30", "tla-b100", "tla-b1000", "tla-sa",
                              "at-norm"}),
    ("train/training.py", None), ("train/losses.py", {"alp", "trades", "kurakin", "at-norm", "tla",
                                                      "tla-sa", "tla-b1", "tla-b30", "tla-b100",
                                                      "tla-b1000"}),
    ("train/pgd.py", None), ("train/networks.py", None), ("train/methods/__init__.py", None),
    ("params.py", set()), ("workers.py", set()), ("files.py", set()),
    ("measure/engine.py", set()), ("report/tables.py", set())])
def test_code_retrains_the_models_that_need_it(file, models, copied, codes):
    before = codes()
    edit(copied / file)
    changed = {name for name, code in codes().items() if code != before[name]}
    assert changed == (set(before) if models is None else models)


def test_a_new_method_retrains_no_other(copied, codes):
    before = codes()
    shutil.copy(copied / "train/methods/at.py", copied / "train/methods/toy.py")
    assert codes() == before


def test_a_swept_pool_is_trained_by_the_code_of_its_method(params, codes):
    assert codes()["tla-b30"] == codes()["tla"] != codes()["at"]
    assert len(set(codes().values())) == len(METHODS)


def test_the_study_is_one_whose_methods_are_all_there(params):
    assert load_params(LIBRARY.parents[1] / "params.yaml").models == params.models
