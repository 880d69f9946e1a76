"""Where a trainer's batches come from: Rudder's loader, or plain DistDGL as its examples do it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import dgl
import torch

from rudder.training import distdgl
from rudder.training.buffer.registry import PolicyOptions
from rudder.training.config import RunConfig
from rudder.training.loader import NodeLoader
from rudder.training.metrics import Memory, Rows, RowsFetched, Seconds, Window
from rudder.training.peak_memory import peak_rss_bytes
from rudder.training.settings import BufferSettings

FEATURE, LABEL, PHASE = "feat", "label", "seed_phase"


@dataclass(frozen=True)
class Step:
    """What one training step needs, and what it took to get it."""

    blocks: list[dgl.DGLGraph]
    features: torch.Tensor
    labels: torch.Tensor
    rows: Rows
    seconds: Seconds


class Source(Protocol):
    """Batches of one trainer, epoch by epoch."""

    def __len__(self) -> int:
        """Steps of an epoch."""

    def epoch(self) -> Iterator[Step]:
        """One epoch's steps."""

    def expect(self, epochs: int) -> None:
        """So many epochs will follow, and then none until the next call."""

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """While inside, this source uses no DGL RPC."""

    def publish(self, window: Window) -> None:
        """Hand a finished window to whoever listens."""

    @property
    def settings(self) -> BufferSettings:
        """Buffer settings in force."""

    @property
    def num_buffered(self) -> int:
        """Rows in the buffer."""

    @property
    def num_ready(self) -> int:
        """Batches that wait for the trainer."""

    def memory(self) -> Memory:
        """Bytes that the source takes."""

    def close(self) -> None:
        """Release what it holds."""


class RudderSource:
    """Rudder's loader behind the same door that people's own scripts use."""

    def __init__(
        self,
        graph: Any,
        seeds: torch.Tensor,
        config: RunConfig,
        control: Path | None,
        trace: Path | None,
    ) -> None:
        self._loader = NodeLoader(
            graph,
            seeds,
            dgl.dataloading.NeighborSampler(list(config.fanout)),
            batch_size=config.batch_size,
            inputs=[FEATURE],
            outputs=[LABEL],
            buffer=config.buffer,
            lookahead=config.lookahead,
            policy=config.policy,
            options=PolicyOptions(
                replacement_interval=config.replacement_interval,
                alpha=config.alpha,
                start=config.start,
                faithful=config.score_faithful,
                source=config.static_source,
            ),
            device=config.device,
            seed=config.seed,
            epochs=config.epochs,
            edge_ids=False,
            order=phases(graph, seeds),
            control=control,
            trace=trace,
        )

    def __len__(self) -> int:
        """Steps of an epoch."""
        return len(self._loader)

    def epoch(self) -> Iterator[Step]:
        """One epoch's steps."""
        for _, _, blocks in self._loader:
            batch = self._loader.last
            assert batch is not None
            yield Step(
                blocks=blocks,
                features=blocks[0].srcdata[FEATURE],
                labels=blocks[-1].dstdata[LABEL],
                rows=batch.rows,
                seconds=batch.seconds + Seconds(exposed_wait=self._loader.last_wait),
            )

    def expect(self, epochs: int) -> None:
        """Let the loader run ahead into so many epochs, not further."""
        self._loader.expect(epochs)

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Pause the loader's thread."""
        return self._loader.paused()

    def publish(self, window: Window) -> None:
        """Hand a window to the control port."""
        self._loader.publish(window)

    @property
    def settings(self) -> BufferSettings:
        """Buffer settings in force."""
        return self._loader.settings

    @property
    def num_buffered(self) -> int:
        """Rows in the buffer."""
        return self._loader.num_buffered

    @property
    def num_ready(self) -> int:
        """Batches that wait for the trainer."""
        return self._loader.num_ready

    def memory(self) -> Memory:
        """Bytes that the loader takes."""
        return self._loader.memory()

    def close(self) -> None:
        """End the loader's thread."""
        self._loader.close()


class StockSource:
    """DistNodeDataLoader and reads of DistTensors, as in DGL's own examples."""

    settings = BufferSettings(capacity_rows=0, lookahead_batches=0)
    num_buffered = 0
    num_ready = 0

    def __init__(self, graph: Any, seeds: torch.Tensor, config: RunConfig) -> None:
        self._graph = graph
        self._seeds = seeds
        self._config = config
        self._phases = phases(graph, seeds)
        view = distdgl.view_of(graph)
        self._first, self._last = view.first, view.last
        self._row_bytes = graph.ndata[FEATURE].shape[1] * view_bytes(graph.ndata[FEATURE])
        self._halo = torch.zeros(view.num_nodes, dtype=torch.bool)
        self._halo[torch.from_numpy(view.halo)] = True
        self._loader = self._make_loader()

    def _make_loader(self) -> Any:
        seeds = self._seeds
        if self._phases is not None:
            order = torch.randperm(len(seeds))
            seeds = seeds[order][torch.argsort(self._phases[order], stable=True)]
        return dgl.dataloading.DistNodeDataLoader(
            self._graph,
            seeds,
            dgl.dataloading.NeighborSampler(list(self._config.fanout)),
            batch_size=self._config.batch_size,
            shuffle=self._phases is None,
            drop_last=False,
        )

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-len(self._seeds) // self._config.batch_size)

    def epoch(self) -> Iterator[Step]:
        """One epoch's steps."""
        if self._phases is not None:
            self._loader = self._make_loader()
        batches = iter(self._loader)
        for _ in range(len(self)):
            started = time.perf_counter()
            input_nodes, seeds, blocks = next(batches)
            sampled = time.perf_counter()
            features = self._graph.ndata[FEATURE][input_nodes]
            labels = self._graph.ndata[LABEL][seeds]
            pulled = time.perf_counter()
            device = torch.device(self._config.device)
            yield Step(
                blocks=[block.to(device) for block in blocks],
                features=features.to(device),
                labels=labels.to(device),
                rows=self._count(input_nodes),
                seconds=Seconds(
                    sample=sampled - started,
                    pull=pulled - sampled,
                    exposed_wait=pulled - started,
                ),
            )

    def _count(self, nodes: torch.Tensor) -> Rows:
        remote = nodes[(nodes < self._first) | (nodes >= self._last)]
        return Rows(
            input_rows=len(nodes),
            remote_rows=len(remote),
            halo_rows=int(self._halo[remote].sum()),
            rows_fetched=RowsFetched(miss=len(remote)),
            bytes_fetched=len(remote) * self._row_bytes,
        )

    def expect(self, epochs: int) -> None:
        """It never runs ahead."""

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """It is always paused between batches."""
        return contextlib.nullcontext()

    def publish(self, window: Window) -> None:
        """Nobody listens."""

    def memory(self) -> Memory:
        """Only the process itself."""
        return Memory(peak_rss_bytes=peak_rss_bytes())

    def close(self) -> None:
        """Nothing to release."""


def phases(graph: Any, seeds: torch.Tensor) -> torch.Tensor | None:
    """int64[n]: when in an epoch each seed is visited, for data sets that say so."""
    return graph.ndata[PHASE][seeds] if PHASE in graph.ndata else None


def view_bytes(tensor: Any) -> int:
    """Bytes of one element."""
    return int(torch.empty(0, dtype=tensor.dtype).element_size())


def seeds_of(graph: Any) -> torch.Tensor:
    """int64[n]: the training nodes of this trainer."""
    seeds: torch.Tensor = dgl.distributed.node_split(
        graph.ndata["train_mask"], graph.get_partition_book(), force_even=True
    )
    return seeds


def make_source(
    graph: Any,
    seeds: torch.Tensor,
    config: RunConfig,
    *,
    control: Path | None,
    trace: Path | None = None,
) -> RudderSource | StockSource:
    """The source that the config names; control: where a socket for changes is made."""
    if config.loader == "stock":
        return StockSource(graph, seeds, config)
    return RudderSource(graph, seeds, config, control, trace)
