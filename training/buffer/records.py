"""The records that compiled loops work on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Numbers = NDArray[np.signedinteger[Any]]
"""Node numbers of 4 or 8 bytes, depending on the size of the graph."""
Records = NDArray[np.void]

LOOKAHEAD_NODE = np.dtype(
    [("slot", np.int32), ("first_use", np.int32), ("place", np.uint32), ("heat", np.float32)]
)
"""The record of a remote node: 1 + its buffer slot, 0: not buffered; the next known batch that uses
it, 0: none; if there is one, the place in the window of the last known use; and the decayed count
of its uses. All are zero at first. Four records fill a cache line."""
