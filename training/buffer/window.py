"""The uses that the sampler has seen ahead: a ring buffer, one place per node of each batch."""

from __future__ import annotations

from collections import deque

import numpy as np

from rudder.training.buffer.records import Int32s
from rudder.training.errors import MachineError

_MIN_SIZE = 16
_MAX_SIZE = 2**31
"""Places are numbered by uint32; a ring of this size takes 16 GiB."""


class LookaheadWindow:
    """The batches that are observed and not yet planned, oldest first.

    next_use, records: int32[size], size a power of two; place p is stored at p % size. It holds the
    number of the next batch that uses the same node (0: none is known) and the node's record.
    Places are never reset, so they stay valid when the ring grows.
    """

    def __init__(self) -> None:
        self.next_use: Int32s = np.empty(_MIN_SIZE, dtype=np.int32)
        self.records: Int32s = np.empty(_MIN_SIZE, dtype=np.int32)
        self.tail = 0
        self.head = 0
        self._widths: deque[int] = deque()

    def __len__(self) -> int:
        """Batches."""
        return len(self._widths)

    @property
    def num_bytes(self) -> int:
        """Memory of the ring."""
        return self.next_use.nbytes + self.records.nbytes

    def make_room(self, width: int) -> None:
        """Make room for `width` more nodes from place `head` on.

        Raises MachineError if the ring would become too large.
        """
        wanted = self.head - self.tail + width
        size = len(self.next_use)
        if wanted <= size:
            return
        if wanted > _MAX_SIZE:
            raise MachineError(
                f"a lookahead of {len(self)} batches has {wanted} remote nodes,"
                f" more than {_MAX_SIZE}",
                remedy="lower lookahead_batches or the batch size",
            )
        places = np.arange(self.tail, self.head)
        grown_size = 1 << (wanted - 1).bit_length()
        for name in ("next_use", "records"):
            grown = np.empty(grown_size, dtype=np.int32)
            grown[places % grown_size] = getattr(self, name)[places % size]
            setattr(self, name, grown)

    def append(self, width: int) -> None:
        """Add the newest batch, whose nodes are already written."""
        self.head += width
        self._widths.append(width)

    def pop(self) -> None:
        """Remove the oldest batch."""
        self.tail += self._widths.popleft()

    def check_oldest(self, width: int) -> None:
        """Raise ValueError unless the oldest batch has `width` nodes."""
        if not self._widths or self._widths[0] != width:
            raise ValueError(
                f"the batch to plan has {width} nodes, but the oldest observed batch has"
                f" {self._widths[0] if self._widths else 'none'}"
            )
