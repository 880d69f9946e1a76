"""Large arrays of zeros are a process's own, and take memory as they are touched."""

from __future__ import annotations

import os

import numpy as np
import pytest

from rudder.training.buffer.records import zeros


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
