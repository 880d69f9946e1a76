"""The loader for people's own scripts, and for `rudder train`.

Three lines take the place of `DistNodeDataLoader` and of the reads of `g.ndata[...]`:

    from rudder.training.loader import NodeLoader
    loader = NodeLoader(g, train_nid, sampler, batch_size=512, inputs=["feat"], outputs=["label"])
    for input_nodes, seeds, blocks in loader:
        x, y = blocks[0].srcdata["feat"], blocks[-1].dstdata["label"]
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dgl
import torch

from rudder.training import distdgl
from rudder.training.buffer.capacity import capacity_of
from rudder.training.buffer.registry import PolicyOptions, make_policy
from rudder.training.config import BufferSize
from rudder.training.control.port import ControlPort, NoControl
from rudder.training.errors import ConfigError
from rudder.training.launch.available_memory import available_memory_bytes
from rudder.training.loading.batch import Batch
from rudder.training.loading.desk import Desk
from rudder.training.loading.loader_thread import LoaderThread
from rudder.training.loading.pipeline import Limits, Pipeline
from rudder.training.loading.samplers import sample_whole, uniform_fanouts
from rudder.training.loading.sampling_stage import SamplingStage
from rudder.training.loading.seed_order import SeedOrder, checked_seeds
from rudder.training.loading.tensors import NodeTensor
from rudder.training.metrics import Memory, Window
from rudder.training.peak_memory import peak_rss_bytes
from rudder.training.sampling.neighbor import NeighborSampling
from rudder.training.settings import BufferSettings
from rudder.training.trace import RecordedPolicy, TraceHeader, TraceWriter
from rudder.training.wire.lean import LeanWire
from rudder.training.wire.services import services_registered
from rudder.training.wire.stock import StockWire
from rudder.training.wire.wire import Wire

Minibatch = tuple[torch.Tensor, torch.Tensor, list[dgl.DGLGraph]]


class NodeLoader:
    """Iterates over minibatches, one epoch a loop, and fetches ahead of the training loop.

    The loader's thread does all DGL RPC while an epoch runs. Between epochs, and within
    `with loader.paused():`, it does none, and the script may use DistTensors itself.
    """

    def __init__(
        self,
        graph: Any,
        nodes: torch.Tensor,
        sampler: Any,
        *,
        batch_size: int,
        shuffle: bool = True,
        drop_last: bool = False,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        buffer: str | float | BufferSize = 0.25,
        lookahead: int = 16,
        policy: str = "lookahead",
        options: PolicyOptions | None = None,
        device: str | torch.device = "cpu",
        seed: int = 0,
        epochs: int | None = None,
        edge_ids: bool = True,
        order: torch.Tensor | None = None,
        control: Path | None = None,
        trace: Path | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        """Prepare; nothing is fetched before the first epoch.

        graph: dgl.distributed.DistGraph; nodes: int64[n] seeds of this trainer;
        sampler: dgl.dataloading.NeighborSampler is drawn by our own fast code where it is uniform
        without replacement, any other block sampler is called as it is;
        inputs: names of node tensors to deliver for input nodes (blocks[0].srcdata);
        outputs: the same for seeds (blocks[-1].dstdata);
        buffer: a share of the halo (0.25), rows ("20000") or bytes ("64MiB");
        options: of policies that have some, see PolicyOptions; what is known of the run is
        filled in;
        lookahead: batches to sample ahead; epochs: how many epochs there will be, if known: then
        the sampler runs ahead from one into the next; edge_ids: whether blocks carry dgl.EID;
        order: int64[n] phase of each seed, visited in ascending order; control: path of the
        socket on which settings may be changed; trace: file to record the run's trace in.
        Raises ConfigError, DataError, MachineError.
        """
        self._rank = distdgl.trainer_rank()
        self._device = torch.device(device)
        self._epochs_left = epochs
        self._queued = 0
        self._iterating = False
        self.view = distdgl.view_of(graph, with_edge_ids=edge_ids)
        self._order = SeedOrder(
            checked_seeds(nodes, num_nodes=self.view.num_nodes),
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            phases=None if order is None else order.numpy(),
            seed=(seed, self._rank),
        )
        self._inputs = [NodeTensor.of(graph, name) for name in inputs]
        self._outputs = [NodeTensor.of(graph, name) for name in outputs]
        fanouts = uniform_fanouts(sampler)
        known = replace(
            options or PolicyOptions(),
            fanouts=None if fanouts is None else tuple(fanouts),
            batch_size=batch_size,
            epoch_batches=len(self._order),
            seeds=nodes.numpy(),
            seed=seed,
        )
        rows = capacity_of(
            buffer if policy != "none" else "0",
            self.view,
            row_bytes=self.row_bytes,
            max_rows=self._max_rows(),
            rank=self._rank,
        )
        settings = BufferSettings(capacity_rows=rows, lookahead_batches=lookahead)
        self.policy = make_policy(policy, self.view, settings, known)
        self.last: Batch | None = None
        self.last_wait = 0.0
        self._trace = self._record(trace, policy, batch_size, fanouts) if trace else None
        desk = Desk(self._make_wire(edge_ids))
        sampling = SamplingStage(
            desk,
            NeighborSampling(self.view, seed=seed * 1_000_003 + self._rank),
            fanouts=fanouts or (),
            sample_whole=None if fanouts else sample_whole(sampler, graph),
        )
        pipeline = Pipeline(
            view=self.view,
            desk=desk,
            sampling=sampling,
            policy=self.policy,
            inputs=self._inputs,
            outputs=self._outputs,
            limits=Limits(),
        )
        self._pipeline = pipeline
        self._control = ControlPort(control, rank=self._rank) if control else NoControl()
        self._thread = LoaderThread(
            pipeline,
            ready=Limits().ready,
            control=self._control,
            rank=self._rank,
            max_buffer_rows=self._max_rows(),
            timeout_s=timeout_s,
        )

    def __len__(self) -> int:
        """Batches of one epoch."""
        return len(self._order)

    def __iter__(self) -> Iterator[Minibatch]:
        """One epoch."""
        if self._iterating:
            raise ConfigError(
                "this loader is iterated already, and its batches come in one order",
                remedy="finish or leave the first loop, or make a second loader",
            )
        self._iterating = True
        if self._queued == 0:
            self._queue_epoch()
        if self._epochs_left is not None and self._epochs_left > 0:
            self._queue_epoch()
        finished = False
        try:
            for _ in range(len(self)):
                self.last, self.last_wait = self._thread.take()
                yield self._deliver(self.last)
            finished = True
        finally:
            self._iterating = False
            self._queued -= 1
            if not finished:
                self._thread.drop_all()
                if self._epochs_left is not None:
                    self._epochs_left += self._queued
                self._queued = 0

    def expect(self, epochs: int) -> None:
        """So many more epochs will follow: the sampler runs ahead into them, and not further.

        After the last of them the loader has no request open, until the next one begins.
        """
        self._epochs_left = epochs - self._queued

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While inside, the loader uses no DGL RPC, so that the script may."""
        self._thread.pause()
        try:
            yield
        finally:
            self._thread.resume()

    def publish(self, window: Window) -> None:
        """Hand a finished window to whoever listens on the control socket; never waits."""
        self._control.publish(window)

    def close(self) -> None:
        """End the loader's thread."""
        self._thread.stop()
        if self._trace is not None:
            self._trace.close()

    @property
    def settings(self) -> BufferSettings:
        """The buffer settings in force."""
        return self._thread.settings

    @property
    def num_buffered(self) -> int:
        """Rows in the buffer."""
        return self._thread.num_buffered

    @property
    def num_ready(self) -> int:
        """Batches that wait for the trainer."""
        return self._thread.num_ready

    @property
    def row_bytes(self) -> int:
        """Bytes of one node's input rows."""
        return sum(tensor.row_bytes for tensor in self._inputs)

    def memory(self) -> Memory:
        """Bytes that the loader takes."""
        return Memory(
            peak_rss_bytes=peak_rss_bytes(),
            buffer_bytes=self._pipeline.buffer_bytes,
            waiting_bytes=self._thread.max_waiting_bytes,
            map_bytes=self.policy.num_bytes,
            map_nodes=self.view.num_remote,
        )

    def _record(
        self, path: Path, policy: str, batch_size: int, fanouts: Sequence[int] | None
    ) -> TraceWriter:
        header = TraceHeader(
            rank=self._rank,
            part=self.view.part,
            starts=tuple(self.view.starts.tolist()),
            num_halo=len(self.view.halo),
            row_bytes=self.row_bytes,
            batch_size=batch_size,
            batches_per_epoch=len(self._order),
            fanouts=None if fanouts is None else tuple(fanouts),
            policy=policy,
            settings=self.policy.settings,
        )
        writer = TraceWriter(path, header, self.view)
        self.policy = RecordedPolicy(self.policy, writer)
        return writer

    def _max_rows(self) -> int:
        return int(available_memory_bytes() * 0.8 // max(self.row_bytes, 1))

    def _make_wire(self, edge_ids: bool) -> Wire:
        if services_registered():
            return LeanWire(self.view, with_edge_ids=edge_ids)
        return StockWire(with_edge_ids=edge_ids)

    def _queue_epoch(self) -> None:
        self._thread.add(self._order.epoch())
        self._queued += 1
        if self._epochs_left is not None:
            self._epochs_left -= 1

    def _deliver(self, batch: Batch) -> Minibatch:
        blocks = list(batch.blocks)
        for name, rows in batch.inputs.items():
            blocks[0].srcdata[name] = rows
        for name, rows in batch.outputs.items():
            blocks[-1].dstdata[name] = rows
        if self._device.type != "cpu":
            blocks = [block.to(self._device, non_blocking=True) for block in blocks]
        return batch.input_nodes, batch.seeds, blocks
