"""Compiled loops are functions like others: typed, documented, and free of the Python lock."""

from __future__ import annotations

import threading
import time

import numpy as np

from rudder.training.buffer.rows import copy_rows
from rudder.training.sampling import kernels


def test_a_compiled_loop_keeps_its_name_and_its_docstring() -> None:
    assert copy_rows.__name__ == "copy_rows"
    assert "source_rows" in str(copy_rows.__doc__)


def test_other_threads_run_while_a_compiled_loop_does() -> None:
    nodes = np.zeros(100_000, dtype=np.int64)
    picked = np.empty(64 * len(nodes), dtype=np.int64)
    arguments = (nodes, 0, np.array([0, 10_000]), 64, np.uint64(1), picked)
    kernels.pick_edges(nodes[:1], *arguments[1:])
    thread = threading.Thread(target=kernels.pick_edges, args=arguments)
    turns = 0
    thread.start()
    while thread.is_alive():
        turns += 1
        time.sleep(0.001)
    assert turns > 10
