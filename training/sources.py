"""Where a trainer's batches come from: Rudder's loader, or plain DistDGL as its examples do it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import dgl
import torch

from rudder.training.buffer.registry import PolicyOptions
from rudder.training.config import RunConfig
from rudder.training.loader import NodeLoader
from rudder.training.metrics import Memory, Seconds, Window
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import SteeringOptions
from rudder.training.step import FEATURE, LABEL, Step, phases
from rudder.training.stock_source import StockSource


class LoaderSource:
    """Over a loader, which it closes."""

    def __init__(self, loader: NodeLoader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        """Steps of an epoch."""
        return len(self._loader)

    def expect(self, epochs: int) -> None:
        """Let the loader run ahead into so many epochs, not further."""
        self._loader.expect(epochs)

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Pause the loader's thread."""
        return self._loader.paused()

    @property
    def settings(self) -> BufferSettings:
        """Buffer settings in force."""
        return self._loader.settings

    @property
    def num_halo(self) -> int:
        """Nodes of other partitions within one hop."""
        return len(self._loader.view.halo)

    def memory(self) -> Memory:
        """Bytes that the loader takes."""
        return self._loader.memory()

    def close(self) -> None:
        """End the loader's thread."""
        self._loader.close()


__all__ = [
    "FEATURE",
    "LABEL",
    "Outside",
    "RudderSource",
    "Source",
    "Step",
    "StockSource",
    "make_source",
    "phases",
    "seeds_of",
]


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


@dataclass(frozen=True)
class Outside:
    """What a source has to do with the world around it.

    control: where a socket for changes is made; controller: how it is steered, None: not at all;
    folder: the run's; trace: file to record the run's trace in; on_window: is told the metrics of
    every 16 steps.
    """

    control: Path | None = None
    controller: SteeringOptions | None = None
    folder: Path | None = None
    trace: Path | None = None
    on_window: Callable[[Window], None] | None = None


class RudderSource(LoaderSource):
    """Rudder's loader behind the same door that people's own scripts use."""

    def __init__(
        self,
        graph: Any,
        seeds: torch.Tensor,
        config: RunConfig,
        outside: Outside,
    ) -> None:
        loader = NodeLoader(
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
            control=outside.control,
            controller=outside.controller,
            folder=outside.folder,
            on_window=outside.on_window,
            trace=outside.trace,
        )
        super().__init__(loader)

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

    @property
    def row_bytes(self) -> int:
        """Bytes of one node's features."""
        return self._loader.row_bytes


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
) -> RudderSource | StockSource:
    """The source that the config names; for what is meant by the others see Outside."""
    if config.loader == "stock":
        return StockSource(graph, seeds, config, on_window=on_window)
    outside = Outside(control, controller, folder, trace, on_window)
    return RudderSource(graph, seeds, config, outside)
