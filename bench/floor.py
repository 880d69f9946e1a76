"""A source that reads no features: Rudder's sampling, labels, and the same tensor for every batch.

No prefetcher can be faster than this with the same sampling and the same model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dgl
import torch

from rudder.training.config import RunConfig
from rudder.training.loader import NodeLoader
from rudder.training.metrics import RowCounts, RowsFetched, Seconds
from rudder.training.sources import FEATURE, LABEL, LoaderSource, Step, phases


class FloorSource(LoaderSource):
    """Batches whose features are rows of one constant tensor."""

    def __init__(self, graph: Any, seeds: torch.Tensor, config: RunConfig) -> None:
        self._device = torch.device(config.device)
        features = graph.ndata[FEATURE]
        self._row_shape, self._dtype = tuple(features.shape[1:]), features.dtype
        self._features = self._make_features(0)
        loader = NodeLoader(
            graph,
            seeds,
            dgl.dataloading.NeighborSampler(list(config.fanout)),
            batch_size=config.batch_size,
            outputs=[LABEL],
            lookahead=config.lookahead,
            policy="none",
            device=config.device,
            seed=config.seed,
            epochs=config.epochs,
            edge_ids=False,
            order=phases(graph, seeds),
        )
        super().__init__(loader)

    def epoch(self) -> Iterator[Step]:
        """One epoch's steps."""
        for input_nodes, _, blocks in self._loader:
            batch = self._loader.last
            assert batch is not None
            seconds = batch.seconds + Seconds(exposed_wait=self._loader.last_wait)
            yield Step(
                blocks=blocks,
                features=self._rows(len(input_nodes)),
                labels=blocks[-1].dstdata[LABEL],
                rows=_without_reads(batch.rows),
                seconds=seconds,
            )

    @property
    def row_bytes(self) -> int:
        """Bytes of a row that a model is given and nobody reads."""
        return self._features[:1].nbytes

    def _rows(self, count: int) -> torch.Tensor:
        if count > len(self._features):
            self._features = self._make_features(count + count // 8)
        return self._features[:count]

    def _make_features(self, count: int) -> torch.Tensor:
        rows = torch.randn(count, *self._row_shape, device=self._device)
        return rows.to(self._dtype)


def _without_reads(rows: RowCounts) -> RowCounts:
    """Of the rows that a batch would have needed, none was fetched."""
    seeds = rows.rows_fetched.seed
    return RowCounts(
        input_rows=rows.input_rows,
        remote_rows=rows.remote_rows,
        halo_rows=rows.halo_rows,
        rows_fetched=RowsFetched(seed=seeds),
    )
