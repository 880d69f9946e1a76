"""Counting a batch's rows: where they came from, and what crossed the network for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rudder.training.loading.batch import Lookup
from rudder.training.loading.tensors import GraphTensor
from rudder.training.metrics import RowCounts, RowsFetched
from rudder.training.partition_view import IntArray, PartitionView


class RowCounter:
    """Counts rows per batch; knows which remote nodes are halo nodes, a bit each."""

    def __init__(
        self, view: PartitionView, inputs: Sequence[GraphTensor], outputs: Sequence[GraphTensor]
    ) -> None:
        num_bits = view.num_remote if len(view.halo) else 0
        self._halo_bits = _bits(view.to_remote(view.halo), num_bits)
        self._input_bytes = sum(tensor.row_bytes for tensor in inputs)
        self._output_bytes = sum(tensor.row_bytes for tensor in outputs)

    def count(self, lookup: Lookup, *, is_idle: bool = False) -> RowCounts:
        """The rows of a planned batch; is_idle: of an eager fetch without one."""
        plan = lookup.planned
        is_halo = _test_bits(self._halo_bits, lookup.remote_numbers)
        seeds_away = sum(len(places) for _, places in lookup.output_tickets)
        eager = {"idle" if is_idle else "target": len(plan.targets)}
        fetched = RowsFetched(miss=len(plan.misses), seed=seeds_away, **eager)
        input_rows_fetched = len(plan.misses) + len(plan.targets)
        return RowCounts(
            input_rows=len(lookup.ids),
            remote_rows=len(lookup.remote),
            halo_rows=int(is_halo.sum()),
            hits=len(plan.hits),
            halo_hits=int(is_halo[plan.hits].sum()),
            rows_fetched=fetched,
            bytes_fetched=input_rows_fetched * self._input_bytes + seeds_away * self._output_bytes,
        )


def _bits(workers: IntArray, size: int) -> NDArray[np.uint8]:
    """A set of numbers below `size`, an eighth of a byte each."""
    is_member = np.zeros(size, dtype=bool)
    is_member[workers] = True
    return np.packbits(is_member, bitorder="little")


def _test_bits(bits: NDArray[np.uint8], numbers: IntArray) -> NDArray[np.bool_]:
    if not len(bits):
        return np.zeros(len(numbers), dtype=bool)
    chosen = bits[numbers >> 3] >> (numbers & 7).astype(np.uint8)
    return np.asarray(chosen & 1, dtype=bool)
