"""Where a trainer's batches come from: Rudder's loader, or plain DistDGL as its examples do it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import dgl
import torch

from rudder.training.buffer.registry import PolicyOptions
from rudder.training.config import RunConfig
from rudder.training.loader import NodeLoader
from rudder.training.loading.batch import Batch
from rudder.training.metrics import Memory, Window
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import SteeringOptions
from rudder.training.step import FEATURE, LABEL, phases
from rudder.training.stock_source import StockSource

__all__ = ["FEATURE", "LABEL", "Source", "StockSource", "make_source", "phases", "seeds_of"]


class Source(Protocol):
    """Batches of one trainer, epoch by epoch."""

    def __len__(self) -> int:
        """Steps of an epoch."""

    def batches(self) -> Iterator[Batch]:
        """One epoch's batches, with FEATURE in `blocks[0].srcdata` and LABEL in `dstdata`."""

    def expect(self, epochs: int) -> None:
        """Run ahead into so many epochs, and not further until the next call."""

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """This source uses no DGL RPC inside."""

    @property
    def settings(self) -> BufferSettings:
        """Buffer settings in force."""

    @property
    def num_halo(self) -> int:
        """Nodes of other partitions within one hop."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one node's inputs."""

    def memory(self) -> Memory:
        """Bytes that the source takes."""

    def close(self) -> None:
        """Release what it holds."""


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
    controller: SteeringOptions | None = None,
    folder: Path | None = None,
    trace: Path | None = None,
    on_window: Callable[[Window], None] | None = None,
) -> NodeLoader | StockSource:
    """The source that the config names.

    control: where a socket for changes is made; controller: how it is steered, None: not at all;
    folder: the run's; trace: file to record the run's trace in; on_window: is told the metrics of
    every 16 steps.
    """
    if config.loader == "stock":
        return StockSource(graph, seeds, config, on_window=on_window)
    return NodeLoader(
        graph,
        seeds,
        dgl.dataloading.NeighborSampler(list(config.fanout)),
        batch_size=config.batch_size,
        inputs=[FEATURE],
        outputs=[LABEL],
        buffer=config.buffer,
        lookahead=config.lookahead,
        eviction_threshold=config.eviction_threshold,
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
        controller=controller,
        folder=folder,
        on_window=on_window,
        trace=trace,
    )
