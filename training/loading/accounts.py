"""Counting a batch's rows: where they came from, and what crossed the network for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rudder.training.loading.batch import InFlightBatch
from rudder.training.loading.tensors import NodeTensor
from rudder.training.metrics import RowCounts, RowsFetched
from rudder.training.partition_view import IntArray, PartitionView


class RowCounter:
    """Counts rows per batch; knows which remote nodes are halo nodes, a bit each."""

    def __init__(
        self, view: PartitionView, inputs: Sequence[NodeTensor], outputs: Sequence[NodeTensor]
    ) -> None:
        self._halo_bits = _bits(view.to_remote(view.halo), view.num_remote)
        self._input_bytes = sum(tensor.row_bytes for tensor in inputs)
        self._output_bytes = sum(tensor.row_bytes for tensor in outputs)

    def count(self, in_flight: InFlightBatch) -> RowCounts:
        """The rows of a planned batch."""
        plan = in_flight.planned
        is_halo = _test_bits(self._halo_bits, in_flight.remote_numbers)
        seeds_away = sum(len(places) for _, places in in_flight.seed_tickets)
        eager = {"idle" if in_flight.is_fetch else "target": len(plan.targets)}
        fetched = RowsFetched(miss=len(plan.misses), seed=seeds_away, **eager)
        input_rows_fetched = len(plan.misses) + len(plan.targets)
        return RowCounts(
            input_rows=len(in_flight.nodes),
            remote_rows=len(in_flight.remote),
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
    chosen = bits[numbers >> 3] >> (numbers & 7).astype(np.uint8)
    return np.asarray(chosen & 1, dtype=bool)
