"""The arrays of records that compiled loops work on: zeroed, in huge pages.

They take physical memory only where they are touched.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Numbers = NDArray[np.signedinteger[Any]]
"""Node numbers of 4 or 8 bytes, depending on the size of the graph."""
Records = NDArray[np.void]

_WORTH_IT = 4 * 2**20
"""Bytes; numpy allocates smaller arrays."""


def zeros(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """dtype[size] of zeros.

    Accesses to records are scattered; with small pages most of them would miss the TLB. numpy
    requests huge pages, too, but not for zeroed memory. The mapping is private because shared
    memory gets huge pages only if the machine is configured for it.
    """
    num_bytes = size * dtype.itemsize
    if num_bytes < _WORTH_IT:
        return np.zeros(size, dtype=dtype)
    memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype=dtype)
