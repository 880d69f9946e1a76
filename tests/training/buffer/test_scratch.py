"""Arrays are handed out again when, and only when, nobody looks at them any more."""

from __future__ import annotations

import numpy as np

from rudder.training.buffer.scratch import Scratch


def test_an_array_in_use_is_not_handed_out_again() -> None:
    scratch = Scratch()
    first = scratch.empty(100)
    view = first[10:20]
    del first
    view[:] = 7
    scratch.empty(100)[:] = 0
    assert view.tolist() == [7] * 10


def test_an_array_nobody_looks_at_is_handed_out_again() -> None:
    scratch = Scratch()
    for size in (100, 90, 100, 1):
        held = scratch.empty(size)
        assert len(held) == size
        assert held.dtype == np.int64
        del held
        assert scratch.num_bytes == 8 * 125


def test_arrays_too_small_are_let_go() -> None:
    scratch = Scratch()
    scratch.empty(10)
    scratch.empty(1000)
    assert scratch.num_bytes == 8 * 1250
