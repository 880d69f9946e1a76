"""The uses that the sampler has seen ahead: a ring of all nodes of the batches to come."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.records import Records
from rudder.training.errors import MachineError

_T = TypeVar("_T", bound=np.generic)
_MIN_SIZE = 16
_MAX_SIZE = 2**31 - 1
"""Places are int32; the ring takes 24 GiB by then."""


class Window:
    """The batches observed and not yet planned, oldest first.

    users: int64[size], the nodes of these batches from place `tail` on, and around; next_use:
    int32[size], the number of the next batch that uses each, NEVER where none is known.
    """

    def __init__(self) -> None:
        self.users = np.empty(_MIN_SIZE, dtype=np.int64)
        self.next_use = np.empty(_MIN_SIZE, dtype=np.int32)
        self.tail = 0
        self.length = 0
        self._widths: deque[int] = deque()

    def __len__(self) -> int:
        """Batches."""
        return len(self._widths)

    @property
    def widths(self) -> IntArray:
        """int64[batches]: nodes of each batch."""
        return np.array(self._widths, dtype=np.int64)

    @property
    def num_bytes(self) -> int:
        """Memory of the ring."""
        return self.users.nbytes + self.next_use.nbytes

    def make_room(self, width: int, nodes: Records) -> None:
        """Make sure that `width` more nodes fit; `nodes` learn where they are if the ring moves.

        Raises MachineError where the ring cannot grow so far.
        """
        wanted = self.length + width
        if wanted <= len(self.users):
            return
        if wanted > _MAX_SIZE:
            raise MachineError(
                f"a lookahead of {len(self)} batches has {wanted} remote nodes,"
                f" more than {_MAX_SIZE}",
                remedy="lower lookahead_batches or the batch size",
            )
        size = min(wanted + wanted // 2, _MAX_SIZE)
        places = (self.tail + np.arange(self.length)) % len(self.users)
        self.users = _moved(self.users, places, size)
        self.next_use = _moved(self.next_use, places, size)
        self.tail = 0
        nodes["place"][self.users[: self.length]] = np.arange(self.length)  # a node's last counts

    def append(self, width: int) -> None:
        """Take in the newest batch, whose nodes are there already."""
        self.length += width
        self._widths.append(width)

    def pop(self) -> None:
        """Let go of the oldest batch."""
        width = self._widths.popleft()
        self.length -= width
        self.tail = (self.tail + width) % len(self.users)

    def check_oldest(self, width: int) -> None:
        """Raise ValueError unless the oldest batch has `width` nodes."""
        if not self._widths or self._widths[0] != width:
            raise ValueError(
                f"a batch of {width} nodes is planned, but observed was"
                f" {self._widths[0] if self._widths else 'none'}"
            )


def _moved(ring: NDArray[_T], places: IntArray, size: int) -> NDArray[_T]:
    moved = np.empty(size, dtype=ring.dtype)
    moved[: len(places)] = ring[places]
    return moved
