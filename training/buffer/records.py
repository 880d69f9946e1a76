"""The records that compiled loops work on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Records = NDArray[np.void]

LOOKAHEAD_NODE = np.dtype([("slot", np.int32), ("place", np.int32), ("heat", np.float32)])
"""Where a node's row is (NOWHERE: not buffered), the place in the window where it was seen last
(out of date where another node is there, or nobody any more), and its decayed count of uses."""

LOOKAHEAD_SLOT = np.dtype(
    [("node", np.int64), ("rank", np.int32), ("before", np.int32), ("after", np.int32)], align=True
)
"""Its node, the list that it stands in, and its neighbours there."""
