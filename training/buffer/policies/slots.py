"""What all policies with a buffer share: settings, slots, fetch targets and changes of capacity."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rudder.training.buffer.directory import make_directory
from rudder.training.buffer.memory import zeros
from rudder.training.buffer.policy import IntArray, Resize, after_another
from rudder.training.buffer.records import Records
from rudder.training.buffer.scratch import Scratch
from rudder.training.buffer.targets import choose_all, refusal_of_targets
from rudder.training.buffer.vip import InclusionProbability
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change, FetchTargets


class SlotBuffer:
    """Keeps a record of each remote node, with the buffer slot that it is in.

    A sub-class says what its records hold, which rows to evict, and what each batch does.
    """

    name: ClassVar[str]
    node: ClassVar[np.dtype[Any]]
    """The record of a node; its field `slot` is 1 + the buffer slot, 0: not buffered."""
    without_meaning: ClassVar[dict[str, str]] = {}
    """Settings that are refused, and why."""

    def __init__(
        self,
        view: PartitionView,
        settings: BufferSettings,
        *,
        vip: InclusionProbability | None = None,
    ) -> None:
        self._view = view
        self._settings = settings
        self._vip = vip
        self._directory = make_directory(view.num_remote)
        self._scratch = Scratch()
        self._nodes: Records = zeros(view.num_remote, self.node)
        self._pending: list[FetchTargets] = []
        self._resize: Resize | None = None
        self._make_slots(settings.capacity_rows)

    @property
    def settings(self) -> BufferSettings:
        """The settings in force for the next plan."""
        return self._settings

    @property
    def num_buffered(self) -> int:
        """Rows in the buffer after the last plan."""
        return len(self._free) - self._num_free

    @property
    def num_bytes(self) -> int:
        """Memory of the policy's own state; of the records, only those in use."""
        arrays = [array for array in vars(self).values() if isinstance(array, np.ndarray)]
        used = sum(array.nbytes for array in arrays) - self._nodes.nbytes + self._records().nbytes
        return used + self._directory.num_bytes + self._scratch.num_bytes

    def refusal(self, change: Change) -> str | None:
        """Why a change has no meaning here, or cannot be made; None if it can."""
        for name, reason in self.without_meaning.items():
            if getattr(change, name) != getattr(Change(), name):
                return f"{name} means nothing to the policy `{self.name}`: {reason}"
        targets = change.fetch_targets
        capacity = change.over(self._settings).capacity_rows
        if capacity == 0 and (targets is not None or change.replace_now):
            return "capacity_rows = 0: there is no buffer that rows could be fetched into"
        if targets is None:
            return None
        return refusal_of_targets(targets, self._view, vip=self._vip)

    def apply(self, change: Change) -> None:
        """Make a change from the next plan on; a smaller capacity evicts at once."""
        self._settings = change.over(self._settings)
        if change.capacity_rows is not None:
            self._set_capacity(change.capacity_rows)
        if change.fetch_targets is not None:
            self._pending.append(change.fetch_targets)
        if change.replace_now:
            self._replace_now()

    # -- what a policy decides ----------------------------------------------------------

    def _worst(self, count: int) -> IntArray:
        """`count` records to drop, of at least as many that are buffered."""
        raise NotImplementedError

    def _resized(self, kept: IntArray, sources: IntArray) -> None:
        """Called after records `kept` moved from slots `sources` to slots 0, 1, ..."""

    def _replace_now(self) -> None:
        """Called when a replacement round is requested."""

    def _heat(self) -> NDArray[np.float32]:
        """float32[records]: how much each node that is not buffered was used."""
        raise NotImplementedError

    # -- records, targets and slots -----------------------------------------------------

    def _records(self) -> Records:
        """The records in use."""
        return self._nodes[: len(self._directory)]

    def _buffered(self) -> IntArray:
        """int64: the records in the buffer, ordered by slot."""
        found = np.flatnonzero(self._records()["slot"])
        return np.asarray(found[np.argsort(self._nodes["slot"][found])])

    def _take_targets(self, missed: IntArray) -> IntArray:
        """Records of the rows to fetch eagerly: not buffered, and not missed by this batch."""
        if not self._pending:
            return np.empty(0, dtype=np.int64)
        pending, self._pending = self._pending, []
        blocked = self._records()["slot"] != 0
        blocked[missed] = True
        return choose_all(
            pending, self._view, self._directory, heat=self._heat(), blocked=blocked, vip=self._vip
        )

    def _take_resize(self) -> Resize | None:
        """The changes of capacity since the last plan, as one."""
        resize, self._resize = self._resize, None
        return resize

    def _make_slots(self, capacity: int) -> None:
        """Make empty slots, no more than there are nodes to fill them."""
        size = min(capacity, self._view.num_remote)
        self._free = np.arange(size - 1, -1, -1, dtype=np.int32)
        self._num_free = size

    def _set_capacity(self, capacity: int) -> None:
        size = min(capacity, self._view.num_remote)
        if size == len(self._free):
            return
        self._nodes["slot"][self._worst(max(self.num_buffered - size, 0))] = 0
        kept = self._buffered()
        sources = self._nodes["slot"][kept].astype(np.int64) - 1
        targets = np.arange(len(kept), dtype=np.int64)
        self._make_slots(capacity)
        self._nodes["slot"][kept] = targets + 1
        self._num_free -= len(kept)
        self._resized(kept, sources)
        self._resize = after_another(self._resize, Resize(size, sources, targets))
