"""The records that compiled loops work on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Numbers = NDArray[np.signedinteger[Any]]
"""Node numbers in 4 or 8 bytes, as the graph needs."""
Records = NDArray[np.void]

LOOKAHEAD_NODE = np.dtype(
    [("slot", np.int32), ("first_use", np.int32), ("place", np.uint32), ("heat", np.float32)]
)
"""Of each remote node seen: 1 + the buffer row that it is in, 0: in none; the next known batch that
uses it, 0: none; the place in the window where it was seen last, if there is a next use; and its
decayed count of uses. All zero at first. Four records fill a cache line."""
