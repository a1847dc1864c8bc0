"""Work handed out to processes: the same results, in the same order, however many there are."""

import os
import time

import pytest
import torch

from tla.params import UserError
from tla.workers import map_parallel

CORES = len(os.sched_getaffinity(0))
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
