"""What a buffer policy is: observe batches ahead of time, plan each when it is its turn."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.hot_set import NO_HOT_SET, HotSet
from rudder.training.settings import BufferSettings, Change

IntArray = NDArray[np.int64]
HALF_LIFE_BATCHES = 4096.0
"""Batches after which a use counts half for the policy `lookahead`: longer than most epochs,
shorter than a long run."""


def _none() -> IntArray:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Resize:
    """The rows that are kept when the capacity changes; all other rows are dropped.

    Row `sources[i]` of the old buffer becomes row `targets[i]` of the new one.
    """

    capacity: int
    sources: IntArray
    targets: IntArray


def after_another(earlier: Resize | None, later: Resize) -> Resize:
    """Two resizes before the same batch, combined into one."""
    if earlier is None:
        return later
    origin = np.full(earlier.capacity, -1, dtype=np.int64)
    origin[earlier.targets] = earlier.sources
    return Resize(later.capacity, origin[later.sources], later.targets)


@dataclass(frozen=True)
class BatchPlan:
    """What one batch does to the buffer.

    In this order: resize; read the slots `hit_slots` for the batch's `hits`; fetch the `misses`
    and the eager `targets`; store the misses `admitted` in `admitted_slots` and the targets in
    `target_slots`.

    hits, misses: int64 positions in the batch's remote nodes; admitted: positions in `misses`;
    targets: int64 remote numbers; *_slots: int64 slots of the buffer.
    """

    hits: IntArray
    hit_slots: IntArray
    misses: IntArray
    admitted: IntArray = field(default_factory=_none)
    admitted_slots: IntArray = field(default_factory=_none)
    targets: IntArray = field(default_factory=_none)
    target_slots: IntArray = field(default_factory=_none)
    resize: Resize | None = None


class Policy:
    """Decides what stays in the buffer; on its own it keeps and learns nothing.

    Batches are observed in order and planned in the same order. Any number of batches may be
    observed before the oldest of them is planned.
    """

    def __init__(self, settings: BufferSettings) -> None:
        self._settings = settings

    @property
    def settings(self) -> BufferSettings:
        """The settings in force for the next plan."""
        return self._settings

    @property
    def num_buffered(self) -> int:
        """Rows in the buffer after the last plan is carried out."""
        return 0

    @property
    def num_bytes(self) -> int:
        """Memory of the policy's own state."""
        return 0

    def observe(self, nodes: IntArray) -> None:
        """Take note of the next batch; nodes: int64[n], distinct remote numbers."""

    def plan(self, nodes: IntArray) -> BatchPlan:
        """Decide for the oldest batch that is not planned yet; nodes: the nodes of that batch."""
        raise NotImplementedError

    @property
    def wants_rows(self) -> bool:
        """Whether rows are to be fetched while the loader is idle."""
        return False

    def fetch(self, most_rows: int) -> BatchPlan:
        """Plan an eager fetch without a batch: at most so many of the rows that are wanted."""
        raise NotImplementedError

    def hot_set(self) -> HotSet:
        """The nodes used most so far; none where nothing is kept of uses."""
        return NO_HOT_SET

    def skip(self, nodes: IntArray) -> None:
        """Drop the oldest batch that is not planned yet: it will not be trained on."""

    def refusal(self, change: Change) -> str | None:
        """Why a change cannot be made; None if it can, and only then may `apply` be called."""
        raise NotImplementedError

    def apply(self, change: Change) -> None:
        """Make a change, which takes effect with the next plan."""
        self._settings = change.over(self._settings)
