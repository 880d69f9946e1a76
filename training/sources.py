"""Where a trainer's batches come from: Rudder's loader, or plain DistDGL as its examples do it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dgl
import torch

from rudder.training import distdgl
from rudder.training.config import RunConfig
from rudder.training.loader import (
    BufferOptions,
    EdgeLoader,
    NodeLoader,
    PerSourceNegatives,
    RunOptions,
    SamplingOptions,
)
from rudder.training.loading.batch import Batch, StepAccounts
from rudder.training.loading.loop import Loader
from rudder.training.loading.state import BEGINNING, LoaderState
from rudder.training.loading.window_meter import WindowMeter
from rudder.training.machine import peak_rss_bytes
from rudder.training.manifest import FEATURE, LABEL, PHASE
from rudder.training.metrics import Memory, RowCounts, RowsFetched, Seconds, Window
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import SteeringOptions
from rudder.training.tensor_roles import join_in, parts_of, row_bytes_of


def phases(graph: Any, seeds: torch.Tensor) -> torch.Tensor | None:
    """int64[n]: when in an epoch each seed is visited, for data sets that say so."""
    return graph.ndata[PHASE][seeds] if PHASE in graph.ndata else None


@dataclass(frozen=True)
class TrainingBatch:
    """What DGL's loaders yield; named as in Batch."""

    input_nodes: torch.Tensor
    seeds: torch.Tensor
    blocks: list[dgl.DGLGraph]
    pair_graph: dgl.DGLGraph | None = None
    negative_graph: dgl.DGLGraph | None = None


class StockSource:
    """DistNodeDataLoader and reads of DistTensors, as in DGL's own examples."""

    settings = BufferSettings(capacity_rows=0, lookahead_batches=0)
    resumes_within_epochs = False
    """The servers' draws, and so an epoch that was begun, are not to be had again."""

    def __init__(
        self,
        graph: Any,
        seeds: torch.Tensor,
        config: RunConfig,
        *,
        on_window: Callable[[Window], None] | None = None,
        resume_from: LoaderState | None = None,
    ) -> None:
        self._graph = graph
        self._seeds = seeds
        self._config = config
        self._phases = None if config.task == "link-prediction" else phases(graph, seeds)
        view = distdgl.view_of(graph)
        self._first, self._last = view.first, view.last
        self.num_halo = len(view.halo)
        self.row_bytes = row_bytes_of(graph, FEATURE)
        self._halo = torch.zeros(view.num_nodes, dtype=torch.bool)
        self._halo[torch.from_numpy(view.halo)] = True
        self._loader = self._make_loader()
        self._on_window = on_window
        begun = resume_from or BEGINNING
        self._meter = WindowMeter(
            distdgl.trainer_rank(), first_epoch=begun.epoch, first_window=begun.window
        )
        self._epoch, self._num_steps = begun.epoch, begun.step

    def _make_loader(self) -> Any:
        seeds = self._seeds
        if self._phases is not None:
            order = torch.randperm(len(seeds))
            seeds = seeds[order][torch.argsort(self._phases[order], stable=True)]
        return dgl.dataloading.DistNodeDataLoader(
            self._graph,
            seeds,
            sampler_of(self._config),
            batch_size=self._config.batch_size,
            shuffle=self._phases is None,
            drop_last=False,
        )

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-len(self._seeds) // self._config.batch_size)

    def batches(self) -> Iterator[Batch]:
        """One epoch's batches."""
        if self._phases is not None:
            self._loader = self._make_loader()
        sampled = iter(self._loader)
        self._meter.start_epoch()
        for _ in range(len(self)):
            self._meter.begin()
            batch = self._read(sampled)
            self._meter.hand_over(batch)
            yield batch
            self._finish_step()
        self._epoch += 1

    def state(self) -> LoaderState:
        """Where it stands between two epochs."""
        return LoaderState(
            epoch=self._epoch,
            batch=0,
            step=self._num_steps,
            window=self._meter.num_windows,
            run_key=None,
            settings=self.settings,
        )

    def leave_out(self, seconds: float) -> None:
        """So much of the step under way was no training."""
        self._meter.leave_out(seconds)

    def _read(self, batches: Iterator[Any]) -> Batch:
        started = time.perf_counter()
        taken = self._take(batches)
        sampled = time.perf_counter()
        taken.blocks[0].srcdata[FEATURE] = self._graph.ndata[FEATURE][taken.input_nodes]
        if taken.pair_graph is None:
            taken.blocks[-1].dstdata[LABEL] = self._graph.ndata[LABEL][taken.seeds]
        pulled = time.perf_counter()
        seconds = Seconds(
            sample=sampled - started, pull=pulled - sampled, exposed_wait=pulled - started
        )
        self._num_steps += 1
        return Batch(
            number=self._num_steps - 1,
            accounts=StepAccounts(self._count(taken.input_nodes), seconds),
            **vars(taken),
        )

    def _take(self, batches: Iterator[Any]) -> TrainingBatch:
        return TrainingBatch(*next(batches))

    def _finish_step(self) -> None:
        self._meter.finish()
        if self._meter.is_full:
            done = self._meter.window(settings=self.settings, buffered_rows=0, waiting_batches=0)
            if self._on_window is not None:
                self._on_window(done.window)

    def _count(self, nodes: torch.Tensor) -> RowCounts:
        remote = nodes[(nodes < self._first) | (nodes >= self._last)]
        return RowCounts(
            input_rows=len(nodes),
            remote_rows=len(remote),
            halo_rows=int(self._halo[remote].sum()),
            rows_fetched=RowsFetched(miss=len(remote)),
            bytes_fetched=len(remote) * self.row_bytes,
        )

    def expect(self, epochs: int) -> None:
        """It never runs ahead."""

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """It is always paused between batches."""
        return contextlib.nullcontext()

    def memory(self) -> Memory:
        """Only the process itself."""
        return Memory(peak_rss_bytes=peak_rss_bytes())

    def close(self) -> None:
        """Nothing to release."""


class _ByRole(Loader):
    """A loader whose batches have input and labels by role."""

    def batches(self) -> Iterator[Batch]:
        """One epoch's batches."""
        for batch in super().batches():
            join_in(batch)
            yield batch


class RunLoader(_ByRole, NodeLoader):
    """Rudder's loader of nodes."""


class RunEdgeLoader(_ByRole, EdgeLoader):
    """Rudder's loader of edges."""


class StockEdgeSource(StockSource):
    """DistEdgeDataLoader and reads of DistTensors; DGL excludes no edges on a DistGraph."""

    def _make_loader(self) -> Any:
        return dgl.dataloading.DistEdgeDataLoader(
            self._graph,
            self._seeds,
            sampler_of(self._config),
            batch_size=self._config.batch_size,
            shuffle=True,
            drop_last=False,
            negative_sampler=dgl.dataloading.negative_sampler.PerSourceUniform(1),
        )

    def _take(self, batches: Iterator[Any]) -> TrainingBatch:
        input_nodes, pairs, negatives, blocks = next(batches)
        return TrainingBatch(input_nodes, pairs.ndata[dgl.NID], blocks, pairs, negatives)


Source = RunLoader | RunEdgeLoader | StockSource


def sampler_of(config: RunConfig) -> Any:
    """The sampler that the config names."""
    return dgl.dataloading.NeighborSampler(list(config.fanout), prob=config.edge_weight)


def seeds_of(graph: Any, config: RunConfig) -> torch.Tensor:
    """int64[n]: the training nodes of this trainer, for link prediction its training edges."""
    seeds = _edges_of(graph, config) if config.task == "link-prediction" else _nodes_of(graph)
    return seeds[: config.max_seeds]


def _edges_of(graph: Any, config: RunConfig) -> torch.Tensor:
    """Training edges of the own partition, each pair of nodes once, shared among its trainers."""
    book = graph.get_partition_book()
    edges = book.partid2eids(book.partid)
    edges = edges[distdgl.trainer_rank() % config.trainers_per_host :: config.trainers_per_host]
    sources, destinations = (ends.numpy() for ends in graph.find_edges(edges))
    chosen = config.edge_split.is_in("train", sources, destinations) & (sources < destinations)
    found: torch.Tensor = edges[torch.from_numpy(chosen)]
    return found[torch.randperm(len(found), generator=torch.Generator().manual_seed(config.seed))]


def _nodes_of(graph: Any) -> torch.Tensor:
    seeds: torch.Tensor = dgl.distributed.node_split(
        graph.ndata["train_mask"],
        graph.get_partition_book(),
        rank=distdgl.trainer_rank(),  # DGL's own numbers of a host's trainers differ by run
        force_even=True,
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
    resume_from: LoaderState | None = None,
) -> Source:
    """The source that the config names.

    control: where a socket for changes is made; controller: how it is steered, None: not at all;
    folder: the run's; trace: file to record the run's trace in; on_window: is told the metrics of
    every window; resume_from: where an earlier source stood.
    """
    is_of_edges = config.task == "link-prediction"
    if config.loader == "stock":
        source = StockEdgeSource if is_of_edges else StockSource
        return source(graph, seeds, config, on_window=on_window, resume_from=resume_from)
    common: dict[str, Any] = {
        "batch_size": config.batch_size,
        "inputs": parts_of(graph, FEATURE),
        "epochs": config.epochs,
        "seed": config.seed,
        "buffer": buffer_options(config),
        "steering": controller,
        "run": RunOptions(
            folder=folder,
            control=control,
            trace=trace,
            on_window=on_window,
            resume_from=resume_from,
        ),
    }
    if is_of_edges:
        return RunEdgeLoader(
            graph,
            seeds,
            sampler_of(config),
            negative_sampler=PerSourceNegatives(1),
            exclude="ends",
            held_out=config.edge_split,
            sampling=SamplingOptions(edge_ids=False),
            **common,
        )
    return RunLoader(
        graph,
        seeds,
        sampler_of(config),
        outputs=parts_of(graph, LABEL),
        sampling=SamplingOptions(order=phases(graph, seeds), edge_ids=False),
        **common,
    )


def buffer_options(config: RunConfig) -> BufferOptions:
    """What a run's config says of its buffer."""
    options = {
        "score": [
            f"interval={config.replacement_interval}+alpha={config.alpha}"
            f"+start={config.start}+faithful={str(config.score_faithful).lower()}"
        ],
        "static": [f"source={config.static_source}"],
    }
    return BufferOptions(
        size=config.buffer,
        memory_budget_bytes=config.memory_budget_bytes,
        policy=":".join([config.policy, *options.get(config.policy, ())]),
        lookahead=config.lookahead,
        eviction_threshold=config.eviction_threshold,
    )
