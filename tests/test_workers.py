"""Work handed out to processes: the same results, in the same order, however many there are."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tla import workers
from tla.params import UserError
from tla.workers import Opened, map_parallel

STAGES = Path(workers.__file__).parents[1]
CORES = len(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.delenv(workers.CLUSTER, raising=False)


both = pytest.mark.parametrize("parallel", [True, False], ids=["parallel", "one by one"])


@both
@pytest.mark.parametrize("items", [[], [7], [5, 3, 9, 1, 1], list("edcba")], ids=str)
def test_results_come_in_the_order_of_the_items(items, parallel):
    """Also where later items are done earlier."""
    def slower_first(numbered):
        number, item = numbered
        time.sleep(0.02 * (len(items) - number))
        return item, number

    numbered = list(enumerate(items))
    found = map_parallel(slower_first, numbered, "items", parallel=parallel)
    assert found == [(item, number) for number, item in numbered]


def test_results_are_equal_in_parallel_and_one_after_the_other():
    """To the last bit, also with a tensor that the function carries along."""
    weights = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))

    def work(seed):
        x = torch.rand(64, 64, generator=torch.Generator().manual_seed(seed))
        return (x @ weights).softmax(1).cumsum(0)

    parallel = map_parallel(work, range(6), "seeds")
    one_by_one = map_parallel(work, range(6), "seeds", parallel=False)
    assert len(parallel) == 6 and all(map(torch.equal, parallel, one_by_one))


def test_each_call_runs_its_own_function():
    assert map_parallel(lambda item: item + 1, [1, 2, 3], "first") == [2, 3, 4]
    assert map_parallel(lambda item: item * 10, [1, 2, 3], "second") == [10, 20, 30]


def test_one_item_and_what_is_not_parallel_run_in_this_process():
    here = os.getpid()
    assert map_parallel(lambda _: os.getpid(), [0], "one") == [here]
    assert map_parallel(lambda _: os.getpid(), range(3), "three", parallel=False) == [here] * 3


@pytest.mark.skipif(CORES < 2, reason="one core")
def test_several_items_run_in_other_processes():
    assert os.getpid() not in map_parallel(lambda _: os.getpid(), range(4), "four")


@both
def test_what_the_user_can_mend_reaches_the_caller_as_one_line(parallel):
    def refuse(item):
        raise UserError(f"params.yaml: {item}: no such thing")
    with pytest.raises(UserError, match="^params.yaml: 1: no such thing$"):
        map_parallel(refuse, [1, 2], "items", parallel=parallel)


# Several GPUs

@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs, or so it believes."""
    monkeypatch.setattr(workers, "_devices", lambda: ["3", "5"])


def on_gpus(function, items):
    return map_parallel(function, items, "items", parallel=False)


def test_every_gpu_has_a_process_that_sees_no_other_from_its_start(gpus):
    """Before torch is imported there; this process sees what it saw."""
    before = os.environ.get(workers.VISIBLE)

    def look(item):
        time.sleep(0.2)
        start = Path("/proc/self/environ").read_text().split("\0")
        return os.getpid(), os.environ[workers.VISIBLE], "torch" in sys.modules, [
            line.partition("=")[2] for line in start if line.startswith(workers.VISIBLE)]

    found = on_gpus(look, range(8))
    assert {(device, tuple(start)) for _, device, _, start in found} == {
        ("3", ("3",)), ("5", ("5",))}
    assert len({process for process, *_ in found} - {os.getpid()}) == 2
    assert not any(loaded for _, _, loaded, _ in found)
    assert os.environ.get(workers.VISIBLE) == before


def test_gpus_give_results_in_the_order_of_the_items_and_share_them_as_they_get_done(gpus):
    def slow_first(item):
        time.sleep(0 if item else 1)
        return item, os.environ[workers.VISIBLE]

    found = on_gpus(slow_first, list(range(12)))
    assert [item for item, _ in found] == list(range(12))
    assert len({device for item, device in found if item}) == 1, "one waits for the first item"


def test_a_function_carries_its_values_to_gpus_and_opens_there_what_is_opened(gpus, tmp_path):
    """Once a process."""
    def opened(path):
        with open(path, "a") as file:
            file.write("x")
        return len("content")

    content, factor = Opened(opened, str(tmp_path / "opened")), 3
    assert on_gpus(lambda item: item * factor * content.content, range(6)) == [
        item * 21 for item in range(6)]
    assert 2 <= len((tmp_path / "opened").read_text()) <= 3


def test_errors_of_gpus_reach_the_caller(gpus):
    def refuse(item):
        if item == 2:
            raise UserError("params.yaml: 2: no such thing")
        return 1 / item

    with pytest.raises(UserError, match="^params.yaml: 2: no such thing$"):
        on_gpus(refuse, [1, 2, 3])
    with pytest.raises(ZeroDivisionError):
        on_gpus(refuse, [0, 1])


def test_one_gpu_or_one_item_is_computed_here(gpus, monkeypatch):
    here = os.getpid()
    assert on_gpus(lambda _: os.getpid(), [0]) == [here]
    monkeypatch.setattr(workers, "_devices", lambda: ["3"])
    assert on_gpus(lambda _: os.getpid(), range(3)) == [here] * 3


@pytest.mark.parametrize(("visible", "count", "names"), [
    (None, 0, []), (None, 2, ["0", "1"]), ("", 0, []), ("2,7", 2, ["2", "7"]),
    ("GPU-a,GPU-b,GPU-c", 2, ["GPU-a", "GPU-b"])])
def test_gpus_have_the_names_that_this_process_sees_them_by(visible, count, names, monkeypatch):
    monkeypatch.delenv(workers.VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(workers.VISIBLE, visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert workers._devices() == names


def test_new_tensors_are_not_filled_where_work_is_done():
    """In deterministic mode PyTorch would write NaN into each, for a tenth of the time."""
    def filled(_):
        return torch.utils.deterministic.fill_uninitialized_memory

    before = filled(None)
    try:
        for parallel in (True, False):
            torch.utils.deterministic.fill_uninitialized_memory = True
            assert map_parallel(filled, [1, 2], "asked", parallel) == [False, False]
        torch.utils.deterministic.fill_uninitialized_memory = True
        assert workers._unpacked(workers._packed(filled))(None) is False
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = before


def test_what_hands_out_work_imports_no_torch():
    code = "import sys, tla.workers; sys.exit(bool({'torch', 'distributed'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=STAGES, check=True)
