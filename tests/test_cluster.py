"""A Dask cluster of this machine: the same rows and models, the same errors, nothing done twice."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tla import workers
from tla.params import UserError
from tla.workers import CLUSTER, Opened, map_parallel

distributed = pytest.importorskip(
    "distributed", reason="no Dask here: pip install -r requirements-cluster.txt")

ROOT = Path(__file__).parents[1]
DASK = [sys.executable, "-m", "dask"]
# Three slices of a seed's forty images, two of AutoAttack's three.
SLICED = {"train.epochs": 2, "train.validate_every": 1, "mining.batch": 50, "evaluate.batch": 15,
          "evaluate.attacks.autoattack": {"kind": "autoattack", "batch": 2}}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A scheduler and two workers that were started elsewhere and know nothing of the project."""
    folder = tmp_path_factory.mktemp("cluster")
    file, log = folder / "scheduler.json", (folder / "log").open("w")
    common = {"cwd": folder, "stdout": log, "stderr": log}
    processes = [subprocess.Popen(
        [*DASK, "scheduler", "--scheduler-file", file, "--host", "127.0.0.1", "--port", "0",
         "--no-dashboard"], **common)]
    processes.append(subprocess.Popen(
        [*DASK, "worker", "--scheduler-file", file, "--nworkers", "2", "--nthreads", "1",
         "--memory-limit", "0", "--no-dashboard", "--local-directory", folder], **common))
    until = time.monotonic() + 60
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.1)
    yield json.loads(file.read_text())["address"]
    for process in reversed(processes):
        process.terminate()
        process.wait(60)


@pytest.fixture
def cluster(address, monkeypatch):
    monkeypatch.setenv(CLUSTER, address)
    return address


# Pieces of work

def test_two_workers_share_the_work_and_results_come_in_the_order_of_the_items(cluster):
    def slower_first(item):
        time.sleep(0.3 if item < 2 else 0.05)
        return item, os.getpid()

    found = map_parallel(slower_first, range(12), "items")
    assert [item for item, _ in found] == list(range(12))
    assert len({process for _, process in found} - {os.getpid()}) == 2


def test_also_one_item_goes_to_the_cluster_and_none_needs_no_worker(cluster):
    (process,) = map_parallel(lambda _: os.getpid(), [0], "one", parallel=False)
    assert process != os.getpid()
    assert map_parallel(lambda _: os.getpid(), [], "none") == []


def test_workers_compute_in_the_folder_of_the_command(cluster, tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert set(map_parallel(lambda _: os.getcwd(), range(4), "where")) == {os.getcwd()}


def test_what_is_opened_is_opened_by_every_worker_once_a_call(cluster, tmp_path, monkeypatch):
    """It is not sent, and what a worker opened for an earlier command is not taken for today's."""
    monkeypatch.chdir(tmp_path)

    def opened(name):
        with open("opened", "a") as file:
            file.write(f"{os.getpid()}\n")
        return Path(name).read_text()

    for content in ("first", "second"):
        Path("data").write_text(content)
        data = Opened(opened, "data")
        Path("opened").unlink()

        def use(item, data=data):
            time.sleep(0.05)
            return item, data.content
        assert map_parallel(use, range(8), "use") == [(item, content) for item in range(8)]
        lines = Path("opened").read_text().split()
        assert len(lines) == len(set(lines)) <= 2 and str(os.getpid()) not in lines


def test_results_have_the_bits_of_this_process(cluster):
    weights = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))

    def work(seed):
        x = torch.rand(64, 64, generator=torch.Generator().manual_seed(seed))
        return (x @ weights).softmax(1).cumsum(0).numpy()

    there = map_parallel(work, range(6), "seeds")
    assert all((found == work(seed)).all() for seed, found in enumerate(there))


def test_what_the_user_can_mend_is_one_line_and_ends_no_worker(cluster):
    def refuse(item):
        if item == 1:
            raise UserError("params.yaml: seeds: no such thing")
        return os.getpid()

    for _ in range(2):
        with pytest.raises(UserError, match="^params.yaml: seeds: no such thing$"):
            map_parallel(refuse, [0, 1, 2], "items")
    before = {*map_parallel(refuse, [0] * 8, "items")}
    assert len(before) <= 2


def test_other_errors_are_what_they_were(cluster):
    def divide(item):
        return 1 / item
    with pytest.raises(ZeroDivisionError):
        map_parallel(divide, [1, 0], "items")
    assert map_parallel(divide, [1, 2], "items") == [1, 0.5]


SCRIPT = """
from tla import outcomes
from tla.workers import map_parallel
print(set(map_parallel(lambda _: outcomes.CLEAN, range(4), "read")))
"""


def test_a_worker_computes_with_the_code_of_the_command_not_with_that_of_an_earlier_one(
        cluster, tmp_path):
    shutil.copytree(ROOT / "stages", tmp_path / "stages",
                    ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "stages" / "script.py").write_text(SCRIPT)
    library = tmp_path / "stages" / "tla" / "outcomes.py"
    for value in ("first", "the second"):
        library.write_text(f'CLEAN = "{value}"\n')
        found = subprocess.run([sys.executable, "stages/script.py"], cwd=tmp_path, check=True,
                               capture_output=True, text=True)
        assert found.stdout.strip() == str({value})


# Stages

def run(script, *arguments, address=None):
    """A stage as the graph runs it, on the cores of this machine or on the cluster."""
    environment = os.environ | ({CLUSTER: address} if address else {})
    done = subprocess.run(
        [sys.executable, ROOT / "stages" / f"{script}.py", "params.yaml", *arguments],
        env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def contents(*folders):
    """The bytes of all files below some folders, by name."""
    files = [file for folder in folders for file in Path(folder).rglob("*") if file.is_file()]
    return {str(file): file.read_bytes() for file in files}


def written(folder):
    """When each file below a folder was written."""
    return {str(file): file.stat().st_mtime_ns for file in Path(folder).rglob("*.safetensors")}


def test_evaluate_writes_the_same_rows_on_a_cluster_and_on_this_machine(study, address):
    """Of several slices. What this machine has kept the cluster does not measure again."""
    study.stage(SLICED)
    made = ("data/digits/rows", "reports/digits/metrics")
    run("evaluate", "--model", "at")
    rows, kept = contents(*made), written("data/kept")
    assert len(rows) == 8 and len([name for name in kept if "suite-pgd." in name]) == 6

    lost = "data/kept/digits/at/seed-1/suite-cw.safetensors"
    for losses in ([lost], kept):
        before = written("data/kept")
        for name in losses:
            Path(name).unlink()
        for folder in made:
            shutil.rmtree(folder)
        run("evaluate", "--model", "at", address=address)
        after = written("data/kept")
        assert contents(*made) == rows and after.keys() == kept.keys()
        assert {name for name in kept if after[name] != before[name]} == set(losses)


def test_train_writes_the_same_models_on_a_cluster_and_on_this_machine(study, address):
    study.params(SLICED)
    made, found = ("data/digits/models", "reports"), []
    for address_ in (None, address):
        run("train", "--model", "tla", address=address_)
        found.append(contents(*made))
        for folder in made:
            shutil.rmtree(folder)
    assert found[0] == found[1] and len(found[0]) == 3


def test_embeddings_are_those_of_this_machine(study, address):
    """What the script itself defines goes to the workers with it."""
    study.stage()
    found = []
    for address_ in (None, address):
        run("represent", "--model", "at", address=address_)
        found.append(contents("data/digits/embedding", "reports"))
    assert found[0] == found[1] and len(found[0]) > 5


# What can be mended

def test_no_scheduler_at_the_address(monkeypatch):
    monkeypatch.setattr(workers, "SECONDS", 1)
    for wrong in ("tcp://127.0.0.1:9", "127.0.0.1:9", "nonsense://there"):
        monkeypatch.setenv(CLUSTER, wrong)
        with pytest.raises(UserError, match=f"^{CLUSTER}: no scheduler answers at {wrong}; "):
            map_parallel(abs, [1], "one")


def test_distributed_is_not_installed(monkeypatch):
    monkeypatch.setenv(CLUSTER, "tcp://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match="pip install -r requirements-cluster.txt"):
        map_parallel(abs, [1], "one")


def test_a_worker_with_several_threads_or_without_the_folder_is_named(monkeypatch, tmp_path):
    """Random numbers, folder and thread settings are those of a process."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    errand = workers._errand(workers._packed(abs))
    monkeypatch.chdir(tmp_path)
    gone.rmdir()
    for threads, words in ((2, "start it with --nthreads 1"), (1, f"does not see {gone}")):
        worker = SimpleNamespace(address="tcp://there", state=SimpleNamespace(nthreads=threads))
        monkeypatch.setattr(distributed, "get_worker", lambda worker=worker: worker)
        answer = errand(workers._packed(-1))
        assert answer.startswith("tcp://there: this worker ") and words in answer


def test_what_both_lists_of_requirements_pin_they_pin_alike():
    pins = []
    for name in ("requirements.txt", "requirements-cluster.txt"):
        lines = (ROOT / name).read_text().splitlines()
        pins.append(dict(line.split()[0].split("==") for line in lines if "==" in line))
    everyday, of_cluster = pins
    assert everyday["distributed"] == of_cluster["dask"] == distributed.__version__
    assert {name: everyday.get(name, pin) for name, pin in of_cluster.items()} == of_cluster
