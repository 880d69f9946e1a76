"""Zeroed arrays in huge pages, which take memory as they are touched."""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORTH_IT = 4 * 2**20
"""Bytes; smaller arrays are left to numpy."""


def zeros(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """dtype[size] of zeros.

    Records of nodes and slots are touched all over. With small pages most of these accesses would
    miss the processor's address cache; numpy asks for huge ones, too, but not for zeroed memory.
    Private, for shared memory gets huge pages only where the machine is set up for it.
    """
    num_bytes = size * dtype.itemsize
    if num_bytes < _WORTH_IT:
        return np.zeros(size, dtype=dtype)
    memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype=dtype)
