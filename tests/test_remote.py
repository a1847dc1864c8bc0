"""A study on another machine, in pieces: the same bytes, and nothing of other code or values."""

import json
import re
import shutil
import subprocess
import venv
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_study import edit

import away
import evaluate
import remote
import represent
import returned
import train
from tla import pieces
from tla.measure import stage as measuring
from tla.measure.elsewhere import elsewhere
from tla.params import UserError
from tla.pieces import names, read_pieces, write_pieces
from tla.train import checkpoints
from tla.train.data import SOURCES, Raw
from tla.train.training import Trainer

ROOT = Path(__file__).parents[1]
FEWER = {"train.epochs": 3, "train.validate_every": 2, "mining.batch": 20,
         "evaluate.attacks.autoattack.batch": 2}


class Stopped(BaseException):
    """The time is over."""


def within(minutes, command):
    """As `remote.within`, in this process."""
    try:
        away.main(command[2:])
        print("finished")
    except Stopped:
        print("ended before it was done")
    return 0


class Machines:
    """`here`, where the study and DVC are, and one machine after the other that has nothing."""

    def __init__(self, study, monkeypatch, folder):
        self.study, self.monkeypatch, self.here, self.count = study, monkeypatch, folder, 0
        monkeypatch.setattr(remote, "within", within)
        study.params(FEWER)
        remote.main(["pack", "params.yaml", "pieces"])

    @property
    def there(self):
        return self.here / f"machine-{self.count}"

    def run(self, models, seeds):
        """Work on a machine with what was packed and what came back; its pieces come back."""
        self.count += 1
        shutil.copytree(self.here / "pieces", self.there / "in")
        shutil.copy(self.here / "params.yaml", self.there)
        self.go_on(models, seeds)

    def go_on(self, models, seeds):
        """The same machine again, with what it was given first."""
        with self.monkeypatch.context() as patch:
            patch.chdir(self.there)
            remote.main(["run", "params.yaml", "in", "--models", *models, "--seeds",
                         *map(str, seeds), "--minutes", "60", "--out", "out"])
        shutil.copytree(self.there / "out", self.here / "pieces", dirs_exist_ok=True)

    def accept(self):
        remote.main(["accept", "params.yaml", "pieces"])


@pytest.fixture
def machines(study, monkeypatch, tmp_path):
    return Machines(study, monkeypatch, tmp_path)


def outputs():
    """What DVC takes from the stages of a model: every file and its content."""
    places = [*(Path("data/digits", kind) for kind in ("models", "rows", "embedding")),
              Path("reports")]
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    return {str(file): file.read_bytes() for file in files}


def measure(model):
    evaluate.main(["params.yaml", "--model", model])
    represent.main(["params.yaml", "--model", model])


def clear():
    """As before anything was trained."""
    for place in ("data/digits/models", "data/digits/rows", "data/digits/embedding", "data/kept",
                  "reports"):
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def alarms(monkeypatch, study):
    """The time is over within these epochs and measurements, counted together."""
    steps, struck = [], set()

    def watched(function):
        def step(*arguments):
            steps.append(None)
            if len(steps) in struck:
                raise Stopped
            return function(*arguments)
        return step

    keep = measuring.kept
    monkeypatch.setattr(Trainer, "epoch", watched(Trainer.epoch))
    monkeypatch.setattr(measuring, "kept", lambda path, key, function:
                        keep(path, key, watched(function)))
    return steps, struck


# The rehearsal

def test_pieces_of_time_on_other_machines_end_in_the_bytes_of_the_stages(machines, alarms, capsys):
    train.main(["params.yaml", "--model", "tla"])
    measure("tla")
    expected = outputs()
    clear()
    steps, struck = alarms
    steps.clear()
    struck |= {2, 6, 7, 20, 40}
    machines.study.again()
    while "finished" not in capsys.readouterr().out.splitlines():
        machines.run(["tla"], [0, 1])
    assert machines.count == 6
    assert machines.study.again()
    machines.accept()
    assert "all seeds are trained; dvc commit --force train@tla" in capsys.readouterr().out
    measure("tla")
    assert machines.study.again() == [], "rows are made of what came back"
    assert outputs() == expected


def test_a_stopped_epoch_is_all_that_is_lost(machines, alarms, capsys):
    steps, struck = alarms
    struck.add(3)
    machines.run(["at"], [0])
    assert "ended before it was done" in capsys.readouterr().out
    assert names(Path("pieces")) == ["at-seed-0-unfinished", "images"]
    machines.accept()
    assert not Path("data/unfinished").exists(), "what is not finished does not come here"
    struck.add(5)       # the third epoch once more, and the first of what is not trained yet
    machines.run(["at"], [0, 1])
    assert "at-seed-0-weights" in names(Path("pieces"))


@pytest.fixture
def few_jobs(monkeypatch):
    """Clean images, and Square, which sees the second seed alone."""
    jobs = evaluate.suite_jobs
    monkeypatch.setattr(evaluate, "suite_jobs", lambda params, seeds: [
        job for job in jobs(params, seeds) if job.name in ("clean", "suite-square")])
    monkeypatch.setattr(evaluate, "norm_jobs", lambda params, seeds: [])
    monkeypatch.setattr(evaluate, "other_jobs", lambda params, classes: [])
    monkeypatch.setattr(represent, "looks", lambda params, model, seed: [])


def test_a_machine_goes_on_from_where_it_was_and_not_from_what_it_was_given(
        machines, alarms, few_jobs):
    steps, struck = alarms
    struck |= {2, 4}
    machines.run(["at"], [0])       # epoch 1, and 2 in vain
    machines.run(["at"], [0])       # 2, and 3 in vain
    assert names(machines.there / "out") == ["at-seed-0-unfinished"]
    machines.go_on(["at"], [0])     # 3, and the clean images
    machines.go_on(["at"], [0])     # nothing
    assert len(steps) == 6
    assert names(machines.there / "out") == ["at-seed-0-kept", "at-seed-0-weights"]


def test_short_attacks_come_first(study):
    passes = [job.passes for job in away.jobs_of(study.stage())]
    assert passes == sorted(passes)


def test_what_was_made_before_a_failure_is_handed_out(machines, few_jobs, monkeypatch):
    """And the command fails as what it ran failed."""
    def failing(minutes, command):
        within(minutes, command)
        return 3

    monkeypatch.setattr(remote, "within", failing)
    with pytest.raises(SystemExit, match="3"):
        machines.run(["at"], [0])
    assert names(machines.there / "out") == ["at-seed-0-kept", "at-seed-0-weights"]


def test_one_seed_is_taken_in_alone_and_the_stage_waits_for_the_others(machines, few_jobs):
    train.main(["params.yaml", "--model", "at"])
    expected = outputs()
    clear()
    log = Path("reports/digits/training/at.csv")
    for seed in (0, 1):
        assert not log.exists()
        machines.run(["at"], [seed])
        machines.accept()
        for found in (0, 1):
            path = f"data/digits/models/at/seed-{found}.safetensors"
            assert Path(path).exists() == (found <= seed)
            assert found > seed or Path(path).read_bytes() == expected[path]
    assert log.read_bytes() == expected[str(log)]
    assert not list(Path("data/unfinished").glob("*.csv"))


# What is refused

@pytest.fixture
def back(machines, few_jobs):
    """The weights of one seed came back, and its clean images."""
    machines.run(["at"], [0])
    assert names(Path("pieces")) == ["at-seed-0-kept", "at-seed-0-weights", "images"]
    return machines


def refused(machines, message):
    before = set(Path("data").rglob("*"))
    with pytest.raises(UserError, match=message) as error:
        machines.accept()
    assert "\n" not in str(error.value)
    assert set(Path("data").rglob("*")) == before and not Path("reports").exists()


@pytest.mark.parametrize(("change", "key"), [
    ({"train.batch": 33}, "training.params.train.batch"), ({"seeds": [0, 1, 2]}, "evaluate.seeds"),
    ({"attack.eps": 0.1}, "evaluate.attack.eps"), ({"detect.steps": 4}, "represent.detect.steps"),
    ({"evaluate.batch": 77}, "evaluate.evaluate.batch")], ids=str)
def test_other_parameters_are_refused(change, key, back):
    edit("params.yaml", change)
    (value,) = change.values()
    refused(back, re.escape(f", today it is {value}"))
    refused(back, f"was made with {key} = ")


def test_a_seed_that_the_study_has_no_more_is_refused(back):
    edit("params.yaml", {"seeds": [1, 2], "tune.seeds": [1, 2],
                         "evaluate.seeds": {"autoattack": [2], "square": [2]}})
    refused(back, "seeds: 0 is not among those of at")


def test_weights_hang_on_no_parameter_of_measurements(back):
    """A study may be measured otherwise later, without training it again."""
    Path("pieces/at-seed-0-kept.tar.gz.000").unlink()
    edit("params.yaml", {"evaluate.batch": 77})
    back.accept()


def test_other_code_is_refused(back, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "training_code", lambda params, model: "edited")
        refused(back, "code = .*, today it is edited")
    with monkeypatch.context() as patch:
        patch.setattr(returned, "code_of", lambda name: f"edited {name}")
        refused(back, "kept: .*evaluate.code = .*, today it is edited evaluate")
    back.accept()


def test_weights_are_asked_themselves_what_made_them(back):
    """They may have lain there from before the code was edited."""
    files = read_pieces(Path("pieces"), "at-seed-0-weights")
    path = "data/digits/models/at/seed-0.safetensors"
    Path("older").write_bytes(files[path])
    with safe_open("older", "pt") as file:
        about = json.loads(file.metadata()["about"])
    save_file(load_file("older"), "older", {"about": json.dumps(about | {"code": "older"})})
    write_pieces(Path("pieces"), "at-seed-0-weights", files | {path: Path("older").read_bytes()})
    refused(back, "code = older")


def test_other_images_are_refused(back):
    path = Path("data/digits/prepared/images.safetensors")
    arrays = load_file(path)
    arrays["x"][0] = 0
    save_file(arrays, path)
    refused(back, "images")


def test_what_is_no_result_is_refused(back):
    write_pieces(Path("pieces"), "mine", {"data/x": b""})
    refused(back, "is not from remote.py run")


@pytest.mark.parametrize("about", [{}, [], {"kind": "kept", "training": "at"}])
def test_a_result_that_does_not_say_what_made_it_is_refused(about, back):
    write_pieces(Path("pieces"), "mine", {"data/about.json": json.dumps(about).encode()})
    refused(back, "mine: does not say what it was made with")


@pytest.mark.parametrize(("models", "seeds", "message"), [
    (["mma"], [0], "'mma' is not among them"), (["at"], [7], "seeds: 7 is not among those of at")])
def test_a_model_or_seed_of_no_study_is_refused(models, seeds, message, machines):
    with pytest.raises(UserError, match=message):
        machines.run(models, seeds)


# The time limit

def test_the_time_is_over_for_a_command_and_its_own_processes(tmp_path, capfd):
    lock = tmp_path / "lock"
    assert remote.within(0.02, ["sh", "-c", f"flock {lock} sleep 100 & wait"]) == 0
    # A killed process lets go when it is gone, a moment after the signal.
    subprocess.run(["flock", "--timeout", "10", lock, "true"], check=True)
    assert "ended before it was done" in capfd.readouterr().out


def test_a_command_that_fails_says_so():
    assert remote.within(1, ["sh", "-c", "exit 3"]) == 3


# Pieces

@pytest.fixture
def small_pieces(monkeypatch, tmp_path):
    monkeypatch.setattr(pieces, "PIECE", 10_000)
    files = {"data/a": np.random.default_rng(0).bytes(45_000), "data/b/c": b""}
    assert len(write_pieces(tmp_path, "x", files)) == 5
    return tmp_path, files


def test_an_archive_comes_back_from_pieces_of_limited_size(small_pieces):
    folder, files = small_pieces
    assert all(path.stat().st_size <= 10_000 for path in folder.iterdir())
    assert names(folder) == ["x"] and read_pieces(folder, "x") == files


def test_only_pieces_that_changed_are_written(small_pieces):
    folder, files = small_pieces
    assert write_pieces(folder, "x", files) == []
    written = write_pieces(folder, "x", files | {"data/b/c": b"1"})
    assert written == [folder / "x.tar.gz.003", folder / "x.tar.gz.004"]
    write_pieces(folder, "x", {"data/a": b"1"})
    assert len(list(folder.iterdir())) == 1 and read_pieces(folder, "x") == {"data/a": b"1"}
    write_pieces(folder, "x", {})
    assert names(folder) == []


@pytest.mark.parametrize("harm", ["first", "middle", "last", "bit", "foreign"])
def test_pieces_that_are_not_whole_are_refused(harm, small_pieces):
    folder, files = small_pieces
    parts = sorted(folder.iterdir())
    part = parts[{"first": 0, "last": -1}.get(harm, 2)]
    if harm == "bit":
        content = bytearray(part.read_bytes())
        content[5000] ^= 1
        part.write_bytes(content)
    elif harm == "foreign":
        write_pieces(folder, "y", files | {"data/a": files["data/a"][::-1]})
        (folder / "y.tar.gz.002").replace(part)
    else:
        part.unlink()
    with pytest.raises(SystemExit, match="is missing or damaged"):
        read_pieces(folder, "x")


@pytest.mark.parametrize("path", ["/etc/passwd", "stages/train.py", "data/../../x"])
def test_nothing_is_written_outside_of_data(path, tmp_path):
    write_pieces(tmp_path, "x", {path: b""})
    with pytest.raises(UserError, match="is none of data/"):
        read_pieces(tmp_path, "x")


# What the other machine lacks

def files_of(package):
    """What an installed package put into site-packages: folders and files."""
    found = distribution(package)
    tops = {path.parts[0] for path in found.files} - {"..", "__pycache__"}
    return [Path(found.locate_file(top)) for top in tops]


def needed(package):
    """A package that is installed and all that it needs, however deep."""
    found, waiting = {}, [package]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            for line in distribution(name).requires or []:
                one = Requirement(line)
                if not one.marker or one.marker.evaluate({"extra": ""}):
                    waiting.append(one.name)
    return list(found)


@pytest.fixture
def bare(tmp_path):
    """A Python with PyTorch, and what requirements-remote.txt names; it can import nothing else."""
    venv.create(tmp_path / "venv", symlinks=True)
    place, = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    lines = (ROOT / "requirements-remote.txt").read_text().splitlines()
    for package in [*needed("torch"), *(line for line in lines if line[0] not in "#-")]:
        for file in files_of(package):
            if not (place / file.name).exists():
                (place / file.name).symlink_to(file)
    return tmp_path / "venv" / "bin" / "python"


@pytest.fixture
def mnist(monkeypatch):
    """Twenty images stand for MNIST, whose files and reader the other machine lacks."""
    rng = np.random.default_rng(0)
    raw = Raw(rng.integers(0, 256, (20, 1, 28, 28), np.uint8), rng.integers(0, 10, 20), 255, 5)
    monkeypatch.setitem(SOURCES, "mnist", lambda: raw)


def test_a_bare_python_does_it_with_the_packages_that_are_named(bare, study, mnist, capfd):
    for package in ("dvc", "torchvision", "pytest"):
        assert subprocess.run([bare, "-c", f"import {package}"]).returncode
    study.params(FEWER | {"ood.sources": ["noise", "photos", "mnist"]})
    remote.main(["pack", "params.yaml", "pieces"])
    Path("there").mkdir()
    shutil.copy("params.yaml", "there")

    def run(minutes):
        subprocess.run([bare, ROOT / "stages" / "remote.py", "run", "params.yaml", "../pieces",
                        "--models", "at", "--seeds", "0", "1", "--minutes", minutes,
                        "--out", "../pieces"], cwd="there", check=True)
        return capfd.readouterr().out

    assert "ended before it was done" in run("0.02")
    assert names(Path("pieces")) == ["images", "images-mnist"]
    assert "finished" in run("10")
    remote.main(["accept", "params.yaml", "pieces"])
    measure("at")
    assert study.again() == []


def test_other_images_are_drawn_from_what_was_packed(study, mnist, monkeypatch):
    study.params({"ood.sources": ["noise", "mnist"]})

    def drawn():
        return elsewhere("mnist", (1, 8, 8), 9, torch.Generator().manual_seed(0))

    expected = drawn()
    remote.main(["pack", "params.yaml", "pieces"])
    assert names(Path("pieces")) == ["images", "images-mnist"]
    monkeypatch.setitem(SOURCES, "mnist", None)
    returned.place(read_pieces(Path("pieces"), "images-mnist"), replace=False)
    away.use_packed_sources()
    assert drawn().equal(expected)
