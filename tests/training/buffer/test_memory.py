"""Large arrays of zeros are a process's own, and take memory as they are touched."""

from __future__ import annotations

import os

import numpy as np
import psutil
import pytest

from rudder.training.buffer.records import zeros
from rudder.training.buffer.registry import make_policy
from rudder.training.buffer.rows import BufferRows
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings


@pytest.mark.parametrize("size", [0, 10, 2**20, 2**24])
def test_an_array_holds_zeros_and_can_be_written(size: int) -> None:
    array = zeros(size, np.dtype(np.int32))
    assert array.shape == (size,)
    assert not array.any()
    array[:] = 7
    assert (array == 7).all()


def test_a_forked_process_writes_to_its_own_copy() -> None:
    array = zeros(2**22, np.dtype(np.int32))
    child = os.fork()
    if child == 0:
        array[:] = 1
        os._exit(0)
    os.waitpid(child, 0)
    assert not array.any()


@pytest.mark.parametrize("name", ["lookahead", "lfu"])
def test_a_buffer_of_all_remote_rows_takes_memory_only_for_those_that_it_holds(name: str) -> None:
    num_remote = 2**24
    view = PartitionView(
        part=0,
        starts=np.array([0, 1, num_remote + 1]),
        indptr=np.array([0, 1]),
        indices=np.array([1]),
        halo=np.array([1]),
    )
    process, settings = psutil.Process(), BufferSettings(capacity_rows=num_remote)
    before = process.memory_info().rss
    policy = make_policy(name, view, settings)
    rows = BufferRows(num_remote, 64)
    assert (policy.num_buffered, rows.capacity) == (0, num_remote)
    assert process.memory_info().rss - before < 2**25
