"""Putting a batch's rows together: local rows, buffered rows and fetched rows, into one tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.rows import BufferRows, MemoryPool, as_words, copy_rows
from rudder.training.loading.batch import Lookup
from rudder.training.loading.tensors import GraphTensor, words_of

_REFRESHED_AT_ONCE = 65_536
"""Rows; a bound for the memory that reading them again takes."""


class Assembly:
    """Rows of the input tensors of one loader, local, buffered and fetched."""

    def __init__(
        self, tensors: Sequence[GraphTensor], *, capacity: int, first: int, pool: MemoryPool
    ) -> None:
        self._tensors = tuple(tensors)
        self._local = {tensor.name: tensor.local_words for tensor in tensors}
        self._buffers = {tensor.name: BufferRows(capacity, tensor.row_bytes) for tensor in tensors}
        self._numbers = np.full(capacity, -1, dtype=np.int64)
        self._first = first
        self._pool = pool

    @property
    def buffer_rows(self) -> int:
        """Rows that there is memory for, after the last plan that was carried out."""
        return max((rows.capacity for rows in self._buffers.values()), default=0)

    @property
    def buffered(self) -> IntArray:
        """int64[n]: remote numbers of the rows that are buffered."""
        numbers = self._numbers.copy()
        return numbers[numbers >= 0]

    def run(self, lookup: Lookup) -> dict[GraphTensor, torch.Tensor]:
        """Rows of the batch's input ids by tensor; changes the buffer as planned."""
        rows = {tensor: self._run_one(tensor, lookup) for tensor in self._tensors}
        self._note_numbers(lookup)
        return rows

    def store_only(self, lookup: Lookup) -> None:
        """Change the buffer as planned for a batch that the trainer will not get."""
        for tensor in self._tensors:
            self._buffers[tensor.name].resize(lookup.planned)
            self._store(tensor, lookup)
        self._note_numbers(lookup)

    def refresh(self, tensor: GraphTensor, read: Callable[[IntArray], torch.Tensor]) -> None:
        """Read the buffered rows of a tensor again; read: takes remote numbers."""
        filled = np.flatnonzero(self._numbers >= 0)
        for start in range(0, len(filled), _REFRESHED_AT_ONCE):
            slots = filled[start : start + _REFRESHED_AT_ONCE]
            rows = words_of(read(self._numbers[slots]))
            self._buffers[tensor.name].store(rows, np.arange(len(slots)), slots)

    def _note_numbers(self, lookup: Lookup) -> None:
        """Whose rows the slots hold after this batch."""
        plan = lookup.planned
        if plan.resize is not None:
            kept = self._numbers[plan.resize.sources]
            self._numbers = np.full(plan.resize.capacity, -1, dtype=np.int64)
            self._numbers[plan.resize.targets] = kept
        missed = lookup.remote_numbers[plan.misses[plan.admitted]]
        self._numbers[plan.admitted_slots] = missed
        self._numbers[plan.target_slots] = plan.targets

    def _run_one(self, tensor: GraphTensor, lookup: Lookup) -> torch.Tensor:
        ids, plan = lookup.ids, lookup.planned
        raw = self._pool.take(len(ids) * tensor.row_bytes).reshape(len(ids), tensor.row_bytes)
        out = as_words(raw)
        buffer = self._buffers[tensor.name]
        buffer.resize(plan)
        local_rows = ids[lookup.local] - self._first
        copy_rows(self._local[tensor.name], local_rows, out, lookup.local)
        buffer.read(plan.hit_slots, out, lookup.remote[plan.hits])
        for fetch in lookup.fetches:
            rows = words_of(lookup.rows(fetch.ticket)[tensor.key])
            where = lookup.remote[plan.misses[fetch.misses]]
            copy_rows(rows, np.arange(len(where)), out, where)
        self._store(tensor, lookup)
        return tensor.from_bytes(raw)

    def _store(self, tensor: GraphTensor, lookup: Lookup) -> None:
        plan = lookup.planned
        slot_of_miss = _slots(len(plan.misses), plan.admitted, plan.admitted_slots)
        slot_of_target = _slots(len(plan.targets), np.arange(len(plan.targets)), plan.target_slots)
        for fetch in lookup.fetches:
            slots = np.concatenate([slot_of_miss[fetch.misses], slot_of_target[fetch.targets]])
            kept = np.flatnonzero(slots >= 0)
            rows = words_of(lookup.rows(fetch.ticket)[tensor.key])
            self._buffers[tensor.name].store(rows, kept, slots[kept])


def _slots(size: int, places: IntArray, slots: IntArray) -> IntArray:
    """Slot of each of `size` rows, -1 for those that are not kept."""
    found = np.full(size, -1, dtype=np.int64)
    found[places] = slots
    return found
