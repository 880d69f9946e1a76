"""Putting a batch's rows together: local rows, buffered rows and fetched rows, into one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rudder.training.buffer.policy import IntArray, Plan
from rudder.training.buffer.rows import BufferRows, MemoryPool, as_words, copy_rows
from rudder.training.loading.tensors import NodeTensor, words_of
from rudder.training.wire.wire import Rows


@dataclass(frozen=True)
class Fetch:
    """Rows asked of one owner: of misses first, then of eager targets.

    misses: positions in the plan's misses; targets: positions in its targets.
    """

    ticket: int
    misses: IntArray
    targets: IntArray


class Assembly:
    """Rows of the input tensors of one loader, local, buffered and fetched."""

    def __init__(
        self, tensors: Sequence[NodeTensor], *, capacity: int, first: int, pool: MemoryPool
    ) -> None:
        self._tensors = tuple(tensors)
        self._local = {tensor.name: tensor.local_words for tensor in tensors}
        self._buffers = {tensor.name: BufferRows(capacity, tensor.row_bytes) for tensor in tensors}
        self._first = first
        self._pool = pool

    @property
    def buffer_rows(self) -> int:
        """Rows that there is memory for, after the last plan that was carried out."""
        return max((rows.capacity for rows in self._buffers.values()), default=0)

    def run(
        self,
        nodes: IntArray,
        *,
        local: IntArray,
        remote: IntArray,
        plan: Plan,
        fetched: Sequence[tuple[Fetch, Rows]],
    ) -> dict[str, torch.Tensor]:
        """Give the rows of `nodes` (global ids) and do the plan's changes to the buffer.

        local, remote: positions in `nodes` of inner nodes and of others.
        """
        return {
            tensor.name: self._run_one(tensor, nodes, local, remote, plan, fetched)
            for tensor in self._tensors
        }

    def store_only(self, plan: Plan, fetched: Sequence[tuple[Fetch, Rows]]) -> None:
        """Do the plan's changes to the buffer for a batch that nobody will get."""
        for tensor in self._tensors:
            buffer = self._buffers[tensor.name]
            buffer.resize(plan)
            self._store(buffer, tensor, plan, fetched)

    def _run_one(
        self,
        tensor: NodeTensor,
        nodes: IntArray,
        local: IntArray,
        remote: IntArray,
        plan: Plan,
        fetched: Sequence[tuple[Fetch, Rows]],
    ) -> torch.Tensor:
        raw = self._pool.take(len(nodes) * tensor.row_bytes).reshape(len(nodes), tensor.row_bytes)
        out = as_words(raw)
        buffer = self._buffers[tensor.name]
        buffer.resize(plan)
        copy_rows(self._local[tensor.name], nodes[local] - self._first, out, local)
        buffer.read(plan.hit_slots, out, remote[plan.hits])
        for fetch, rows in fetched:
            count = len(fetch.misses)
            where = remote[plan.misses[fetch.misses]]
            copy_rows(words_of(rows[tensor.key]), np.arange(count), out, where)
        self._store(buffer, tensor, plan, fetched)
        return tensor.from_bytes(raw)

    def _store(
        self,
        buffer: BufferRows,
        tensor: NodeTensor,
        plan: Plan,
        fetched: Sequence[tuple[Fetch, Rows]],
    ) -> None:
        slot_of_miss = _slots(len(plan.misses), plan.admitted, plan.admitted_slots)
        slot_of_target = _slots(len(plan.targets), np.arange(len(plan.targets)), plan.target_slots)
        for fetch, rows in fetched:
            slots = np.concatenate([slot_of_miss[fetch.misses], slot_of_target[fetch.targets]])
            kept = np.flatnonzero(slots >= 0)
            buffer.store(words_of(rows[tensor.key]), kept, slots[kept])


def _slots(size: int, places: IntArray, slots: IntArray) -> IntArray:
    """Slot of each of `size` rows, -1 for those that are not kept."""
    found = np.full(size, -1, dtype=np.int64)
    found[places] = slots
    return found
