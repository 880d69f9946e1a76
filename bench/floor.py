"""A source that reads no features: Rudder's sampling, labels, and one constant tensor.

No prefetcher with the same sampling and model can be faster than this.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from rudder.training.config import RunConfig
from rudder.training.loader import BufferOptions, SamplingOptions
from rudder.training.loading.batch import Batch
from rudder.training.manifest import FEATURE, LABEL
from rudder.training.metrics import RowCounts, RowsFetched
from rudder.training.sources import RunLoader, phases, sampler_of
from rudder.training.tensor_roles import parts_of


class FloorSource(RunLoader):
    """Batches whose features are rows of one constant tensor."""

    def __init__(self, graph: Any, seeds: torch.Tensor, config: RunConfig) -> None:
        super().__init__(
            graph,
            seeds,
            sampler_of(config),
            batch_size=config.batch_size,
            outputs=parts_of(graph, LABEL),
            epochs=config.epochs,
            seed=config.seed,
            buffer=BufferOptions(policy="none", lookahead=config.lookahead),
            sampling=SamplingOptions(order=phases(graph, seeds), edge_ids=False),
        )
        features = graph.ndata[FEATURE]
        self._row_shape, self._dtype = tuple(features.shape[1:]), features.dtype
        self._features = self._make_features(0)

    def batches(self) -> Iterator[Batch]:
        """One epoch's batches."""
        for batch in super().batches():
            batch.blocks[0].srcdata[FEATURE] = self._rows(len(batch.input_nodes))
            batch.accounts.rows = _without_reads(batch.accounts.rows)
            yield batch

    def _rows(self, count: int) -> torch.Tensor:
        if count > len(self._features):
            self._features = self._make_features(count + count // 8)
        return self._features[:count]

    def _make_features(self, count: int) -> torch.Tensor:
        rows = torch.randn(count, *self._row_shape)
        return rows.to(self._dtype)


def _without_reads(rows: RowCounts) -> RowCounts:
    """The rows that a batch would need, none of them fetched but the seeds' labels."""
    seeds = rows.rows_fetched.seed
    return RowCounts(
        input_rows=rows.input_rows,
        remote_rows=rows.remote_rows,
        halo_rows=rows.halo_rows,
        rows_fetched=RowsFetched(seed=seeds),
    )
