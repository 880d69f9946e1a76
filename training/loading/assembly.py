"""Putting a batch's rows together: local rows, buffered rows and fetched rows, into one tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.rows import BufferRows, MemoryPool, as_words, copy_rows
from rudder.training.loading.batch import InFlightBatch
from rudder.training.loading.tensors import NodeTensor, words_of

_REFRESHED_AT_ONCE = 65_536
"""Rows; a bound for the memory that reading them again takes."""


class Assembly:
    """Rows of the input tensors of one loader, local, buffered and fetched."""

    def __init__(
        self, tensors: Sequence[NodeTensor], *, capacity: int, first: int, pool: MemoryPool
    ) -> None:
        self._tensors = tuple(tensors)
        self._local = {tensor.name: tensor.local_words for tensor in tensors}
        self._buffers = {tensor.name: BufferRows(capacity, tensor.row_bytes) for tensor in tensors}
        self._nodes = np.full(capacity, -1, dtype=np.int64)
        self._first = first
        self._pool = pool

    @property
    def buffer_rows(self) -> int:
        """Rows that there is memory for, after the last plan that was carried out."""
        return max((rows.capacity for rows in self._buffers.values()), default=0)

    @property
    def buffered(self) -> IntArray:
        """int64[n]: remote numbers of the nodes whose rows are buffered."""
        nodes = self._nodes.copy()
        return nodes[nodes >= 0]

    def run(self, in_flight: InFlightBatch) -> dict[str, torch.Tensor]:
        """Rows of the batch's input nodes by tensor name; changes the buffer as planned."""
        rows = {tensor.name: self._run_one(tensor, in_flight) for tensor in self._tensors}
        self._note_nodes(in_flight)
        return rows

    def store_only(self, in_flight: InFlightBatch) -> None:
        """Change the buffer as planned for a batch that the trainer will not get."""
        for tensor in self._tensors:
            self._buffers[tensor.name].resize(in_flight.planned)
            self._store(tensor, in_flight)
        self._note_nodes(in_flight)

    def refresh(self, tensor: NodeTensor, read: Callable[[IntArray], torch.Tensor]) -> None:
        """Read the buffered rows of a tensor again; read: takes remote numbers."""
        filled = np.flatnonzero(self._nodes >= 0)
        for start in range(0, len(filled), _REFRESHED_AT_ONCE):
            slots = filled[start : start + _REFRESHED_AT_ONCE]
            rows = words_of(read(self._nodes[slots]))
            self._buffers[tensor.name].store(rows, np.arange(len(slots)), slots)

    def _note_nodes(self, in_flight: InFlightBatch) -> None:
        """Whose rows the slots hold after this batch."""
        plan = in_flight.planned
        if plan.resize is not None:
            kept = self._nodes[plan.resize.sources]
            self._nodes = np.full(plan.resize.capacity, -1, dtype=np.int64)
            self._nodes[plan.resize.targets] = kept
        missed = in_flight.remote_numbers[plan.misses[plan.admitted]]
        self._nodes[plan.admitted_slots] = missed
        self._nodes[plan.target_slots] = plan.targets

    def _run_one(self, tensor: NodeTensor, in_flight: InFlightBatch) -> torch.Tensor:
        nodes, plan = in_flight.nodes, in_flight.planned
        raw = self._pool.take(len(nodes) * tensor.row_bytes).reshape(len(nodes), tensor.row_bytes)
        out = as_words(raw)
        buffer = self._buffers[tensor.name]
        buffer.resize(plan)
        local_rows = nodes[in_flight.local] - self._first
        copy_rows(self._local[tensor.name], local_rows, out, in_flight.local)
        buffer.read(plan.hit_slots, out, in_flight.remote[plan.hits])
        for fetch in in_flight.fetches:
            rows = words_of(in_flight.rows(fetch.ticket)[tensor.key])
            where = in_flight.remote[plan.misses[fetch.misses]]
            copy_rows(rows, np.arange(len(where)), out, where)
        self._store(tensor, in_flight)
        return tensor.from_bytes(raw)

    def _store(self, tensor: NodeTensor, in_flight: InFlightBatch) -> None:
        plan = in_flight.planned
        slot_of_miss = _slots(len(plan.misses), plan.admitted, plan.admitted_slots)
        slot_of_target = _slots(len(plan.targets), np.arange(len(plan.targets)), plan.target_slots)
        for fetch in in_flight.fetches:
            slots = np.concatenate([slot_of_miss[fetch.misses], slot_of_target[fetch.targets]])
            kept = np.flatnonzero(slots >= 0)
            rows = words_of(in_flight.rows(fetch.ticket)[tensor.key])
            self._buffers[tensor.name].store(rows, kept, slots[kept])


def _slots(size: int, places: IntArray, slots: IntArray) -> IntArray:
    """Slot of each of `size` rows, -1 for those that are not kept."""
    found = np.full(size, -1, dtype=np.int64)
    found[places] = slots
    return found
