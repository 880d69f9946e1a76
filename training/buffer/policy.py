"""What a buffer policy is: it sees batches ahead of time and plans each one when its turn comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rudder.training.settings import BufferSettings, Change

IntArray = NDArray[np.int64]


def _none() -> IntArray:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Resize:
    """Rows that move when the buffer gets another capacity; all other rows are dropped.

    Row `sources[i]` of the old buffer becomes row `targets[i]` of the new one.
    """

    capacity: int
    sources: IntArray
    targets: IntArray


def after_another(earlier: Resize | None, later: Resize) -> Resize:
    """Two resizes before one batch, as one."""
    if earlier is None:
        return later
    origin = np.full(earlier.capacity, -1, dtype=np.int64)
    origin[earlier.targets] = earlier.sources
    return Resize(later.capacity, origin[later.sources], later.targets)


@dataclass(frozen=True)
class Plan:
    """What one batch does to the buffer, in this order:

    resize; read rows `hit_slots` for the batch's `hits`; fetch the `misses` and the eager
    `targets`; store the misses `admitted` at `admitted_slots` and the targets at `target_slots`.

    hits, misses: int64 positions in the batch's remote nodes; admitted: positions in `misses`;
    targets: int64 remote numbers; *_slots: int64 rows of the buffer.
    """

    hits: IntArray
    hit_slots: IntArray
    misses: IntArray
    admitted: IntArray = field(default_factory=_none)
    admitted_slots: IntArray = field(default_factory=_none)
    targets: IntArray = field(default_factory=_none)
    target_slots: IntArray = field(default_factory=_none)
    resize: Resize | None = None


class Policy(Protocol):
    """Decides what stays in the buffer. Batches are observed in order, then planned in order.

    A batch is planned after it was observed, and before it any number of later ones may be.
    """

    @property
    def settings(self) -> BufferSettings:
        """The settings in force for the next plan."""

    @property
    def num_buffered(self) -> int:
        """Rows that the buffer holds once all planned batches are done."""

    @property
    def num_bytes(self) -> int:
        """Memory of the policy's own state."""

    def observe(self, nodes: IntArray) -> None:
        """Take note of the next batch to come: int64[n], distinct remote numbers."""

    def plan(self, nodes: IntArray) -> Plan:
        """Decide for the oldest batch not yet planned, whose nodes these are."""

    def skip(self, nodes: IntArray) -> None:
        """Pass over the oldest batch not yet planned, which will not happen."""

    def refusal(self, change: Change) -> str | None:
        """Why a change cannot be made, or None; `apply` may only be called after None."""

    def apply(self, change: Change) -> None:
        """Make a change; it holds from the next plan on."""
