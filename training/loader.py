"""The loader for people's own scripts, and for `rudder train`.

Three lines take the place of `DistNodeDataLoader` and of the reads of `g.ndata[...]`:

    from rudder.training.loader import NodeLoader
    loader = NodeLoader(g, train_nid, sampler, batch_size=512, inputs=["feat"], outputs=["label"])
    for input_nodes, seeds, blocks in loader:
        x, y = blocks[0].srcdata["feat"], blocks[-1].dstdata["label"]
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dgl
import torch

from rudder.training import distdgl
from rudder.training.buffer.registry import PolicyOptions
from rudder.training.config import AUTO, BufferSize
from rudder.training.control.endpoint import ControlEndpoint
from rudder.training.errors import ConfigError
from rudder.training.loading import arguments
from rudder.training.loading.access_sample import sample_of
from rudder.training.loading.batch import Batch
from rudder.training.loading.epoch_queue import EpochQueue
from rudder.training.loading.loader_thread import LoaderThread
from rudder.training.loading.pipeline import Limits, Pipeline
from rudder.training.loading.process_group import process_group
from rudder.training.loading.requests import open_requests
from rudder.training.loading.resources import LoaderResources
from rudder.training.loading.sampling_stage import SamplingStage, sample_whole, uniform_fanouts
from rudder.training.loading.seed_order import SeedOrder, seed_from_torch
from rudder.training.loading.setup import (
    LoaderInfo,
    budget_rows,
    loader_info_of,
    policy_of,
    recorded,
)
from rudder.training.loading.tensors import NodeTensor
from rudder.training.loading.window_meter import WindowMeter
from rudder.training.loading.writes import Writes
from rudder.training.machine import max_buffer_rows, peak_rss_bytes
from rudder.training.metrics import Memory, Window
from rudder.training.partition_view import IntArray
from rudder.training.sampling.neighbor import NeighborSampling
from rudder.training.settings import (
    DEFAULT_LOOKAHEAD_BATCHES,
    MAX_LOOKAHEAD_BATCHES,
    BufferSettings,
)
from rudder.training.steering_options import SteeringOptions
from rudder.training.wire.rpc_gate import open_gate

__all__ = ["NodeLoader"]

Minibatch = tuple[torch.Tensor, torch.Tensor, list[dgl.DGLGraph]]


class NodeLoader:
    """Iterates over minibatches and fetches ahead of the training loop. One loop is one epoch.

    A thread of the loader's fetches the batches. Meanwhile the script may use DistTensors, DGL's
    samplers and further loaders as if there were no such thread. The thread ends with `close()`,
    when the loader is no longer used, or when Python exits.
    """

    def __init__(
        self,
        graph: Any,
        nodes: torch.Tensor | IntArray | Sequence[int],
        sampler: Any,
        *,
        batch_size: int,
        shuffle: bool = True,
        drop_last: bool = False,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        mutable: Sequence[str] = (),
        buffer: str | float | BufferSize = AUTO,
        memory_budget_bytes: int | None = None,
        lookahead: int = DEFAULT_LOOKAHEAD_BATCHES,
        eviction_threshold: float | None = None,
        policy: str = "lookahead",
        options: PolicyOptions | None = None,
        device: str | torch.device = "cpu",
        seed: int | None = None,
        epochs: int | None = None,
        edge_ids: bool = True,
        order: torch.Tensor | IntArray | None = None,
        control: str | Path | None = None,
        controller: SteeringOptions | None = None,
        folder: str | Path | None = None,
        on_window: Callable[[Window], None] | None = None,
        trace: str | Path | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        """Prepare; nothing is fetched before the first epoch.

        Args:
            graph: dgl.distributed.DistGraph with one type of node and one type of edge.
            nodes: int64[n], the seeds of this trainer.
            sampler: A dgl.dataloading.NeighborSampler that draws uniformly without replacement is
                replaced by Rudder's own faster code; any other block sampler is called as it is.
            batch_size: Seeds per batch.
            shuffle: Whether each epoch visits the seeds in a new random order.
            drop_last: Whether a last batch with fewer seeds is left out.
            inputs: Names of node tensors to deliver for input nodes, in `blocks[0].srcdata`.
            outputs: Names of node tensors to deliver for seeds, in `blocks[-1].dstdata`.
            mutable: Those of `inputs` and `outputs` that the script writes while an epoch runs.
                They are not buffered, but read like `g.ndata[...]` when a batch is taken.
            buffer: "auto" takes as many rows as the memory budget holds, at most all remote rows.
                Else a share of the halo (0.25), a number of rows ("20000") or bytes ("64MiB").
            memory_budget_bytes: Bytes for the buffers of all trainers of this host. None: what the
                controller's options say, else half of the memory that the host has left.
            lookahead: Batches that are sampled ahead.
            eviction_threshold: Rows with more predicted uses per batch stay in the buffer, 0 to 1.
                None: the policy's default.
            policy: Decides which remote rows stay in the buffer; docs/policies.md describes them.
            options: Options of the policy. The loader fills in what it knows of the run.
            device: Device to which batches are moved.
            seed: Seed of order and sampling. None: both follow torch's generator, so
                `torch.manual_seed` sets them; without `epochs` the order is DistNodeDataLoader's.
                DGL's own servers follow no seed; docs/own-script.md says what does.
            epochs: Number of epochs. If it is given, the sampler runs ahead into the next epoch.
            edge_ids: Whether blocks carry `dgl.EID`.
            order: int64[n], a phase for each seed. Seeds are visited in ascending order of phase.
            control: Path of the Unix socket on which settings may be changed.
            controller: Starts a controller process with these options, which steers this loader.
            folder: Folder of the socket and of the record. None: `rudder-runs/<time>`.
            on_window: Called with the measurements of every 16 steps, on the training thread.
            trace: File in which to record the remote nodes of every batch.
            timeout_s: Longest wait for a server's answer, in seconds.

        Raises:
            ConfigError: An argument is outside its range.
            DataError: The graph or a node tensor cannot be used.
            MachineError: The machine lacks memory, or the socket cannot be opened.
            RunError: A server or another trainer failed.
        """
        group = process_group()
        batch_size = arguments.whole_number("batch_size", batch_size, least=1)
        lookahead = arguments.whole_number(
            "lookahead", lookahead, least=0, most=MAX_LOOKAHEAD_BATCHES
        )
        if epochs is not None:
            epochs = arguments.whole_number("epochs", epochs, least=0)
        if eviction_threshold is not None:
            eviction_threshold = arguments.fraction("eviction_threshold", eviction_threshold)
        if on_window is not None and not callable(on_window):
            raise ConfigError.for_field("on_window", value=on_window, allowed="a function or None")
        if not timeout_s > 0:
            raise ConfigError.for_field("timeout_s", value=timeout_s, allowed="more than 0 seconds")
        input_names = arguments.tensor_names("inputs", inputs)
        output_names = arguments.tensor_names("outputs", outputs)
        mutable_names = arguments.some_of("mutable", mutable, (*input_names, *output_names))
        self._device = arguments.device_of(device)
        self._on_window = on_window
        self._iterating = False
        self.view = distdgl.view_of(graph, with_edge_ids=edge_ids)
        open_gate()
        if seed is not None:
            seed = arguments.whole_number("seed", seed, least=0, most=2**32 - 1)
        seed_of_draws = seed_from_torch() if seed is None else seed
        seeds = arguments.node_ids(nodes, num_nodes=self.view.num_nodes)
        order_of_seeds = SeedOrder(
            seeds,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            phases=arguments.phases_of(order, num_nodes=len(seeds)),
            seed=(seed_of_draws, group.rank),
            order_from_torch=seed is None,
        )
        self._num_batches = len(order_of_seeds)
        self._graph = graph
        self._inputs = [
            NodeTensor.of(graph, name) for name in input_names if name not in mutable_names
        ]
        self._outputs = [
            NodeTensor.of(graph, name) for name in output_names if name not in mutable_names
        ]
        self._mutable_inputs = [name for name in input_names if name in mutable_names]
        self._mutable_outputs = [name for name in output_names if name in mutable_names]
        self._writes = Writes((*self._inputs, *self._outputs), group)
        fanouts = uniform_fanouts(sampler)
        whole = None if fanouts else sample_whole(sampler, graph)
        if memory_budget_bytes is not None:
            memory_budget_bytes = arguments.whole_number(
                "memory_budget_bytes", memory_budget_bytes, least=0
            )
        elif controller is not None:
            memory_budget_bytes = controller.memory_budget_bytes
        known = LoaderInfo(
            rank=group.rank,
            world_size=group.world_size,
            policy=policy,
            row_bytes=self.row_bytes,
            batch_size=batch_size,
            batches_per_epoch=self._num_batches,
            epochs=epochs,
            fanouts=fanouts,
            max_buffer_rows=max_buffer_rows(
                row_bytes=self.row_bytes,
                world_size=group.world_size,
                num_hosts=len(self.view.starts) - 1,
            ),
        )
        self._budget_rows = budget_rows(known, self.view, budget_bytes=memory_budget_bytes)
        self.policy, trace_writer = recorded(
            policy_of(
                known,
                self.view,
                buffer=buffer,
                lookahead=lookahead,
                eviction_threshold=eviction_threshold,
                most_rows=self._budget_rows,
                options=replace(
                    options or PolicyOptions(),
                    fanouts=fanouts,
                    batch_size=batch_size,
                    epoch_batches=self._num_batches,
                    seeds=seeds,
                    seed=seed_of_draws,
                ),
            ),
            arguments.path("trace", trace),
            self.view,
            known,
        )
        self._endpoint = ControlEndpoint(
            group,
            policy=self.policy,
            loader_info_of=lambda key: loader_info_of(self.view, self.policy, known, run_key=key),
            control=arguments.path("control", control),
            controller=controller,
            memory_budget_bytes=memory_budget_bytes,
            folder=arguments.path("folder", folder),
        )
        pending = open_requests(self.view, with_edge_ids=edge_ids)
        sampling = SamplingStage(
            pending,
            NeighborSampling(self.view),
            fanouts=fanouts or (),
            sample_whole=whole,
        )
        port = self._endpoint.port
        sample = sample_of(self.view, policy=policy, is_wanted=lambda: port.has_subscribers)
        self._meter = WindowMeter(group.rank, rate=sample.rate)
        self._pipeline = Pipeline(
            view=self.view,
            pending=pending,
            sampling=sampling,
            policy=self.policy,
            inputs=self._inputs,
            outputs=self._outputs,
            limits=Limits(),
            sample=sample,
        )
        self._thread = LoaderThread(
            self._pipeline,
            ready=Limits().ready,
            steering=self._endpoint.steering,
            timeout_s=timeout_s,
        )
        self._epochs = EpochQueue(order_of_seeds, self._thread, epochs=epochs)
        self._resources = LoaderResources(self, self._thread, self._endpoint, trace_writer)

    def __len__(self) -> int:
        """Batches of one epoch."""
        return self._num_batches

    def __iter__(self) -> Iterator[Minibatch]:
        """One epoch, as DistNodeDataLoader gives it: input nodes, seeds and blocks."""
        return ((batch.input_nodes, batch.seeds, batch.blocks) for batch in self.batches())

    def batches(self) -> Iterator[Batch]:
        """One epoch's batches with their accounts. Raises ConfigError once it is closed."""
        if self._iterating:
            raise ConfigError(
                "this loader is iterated already, and its batches come in one order",
                remedy="finish or leave the first loop, or make a second loader",
            )
        if written := self._writes.take():
            with self._thread_paused():
                self._thread.refresh(written, self._read)
        self._epochs.begin()
        self._iterating = self._writes.is_reading = True
        self._meter.start_epoch()
        finished = False
        try:
            for _ in range(len(self)):
                self._meter.begin()
                batch = self._thread.take()
                self._add_mutable(batch)
                self._meter.hand_over(batch)
                yield batch.on(self._device)
                self._finish_step()
            finished = True
            self._writes.check_epoch()
        finally:
            self._iterating = self._writes.is_reading = False
            self._epochs.end(finished=finished)

    def _read(self, tensor: NodeTensor, nodes: IntArray) -> torch.Tensor:
        rows: torch.Tensor = self._graph.ndata[tensor.name][torch.from_numpy(nodes)]
        return rows

    def _add_mutable(self, batch: Batch) -> None:
        for name in self._mutable_inputs:
            batch.blocks[0].srcdata[name] = self._graph.ndata[name][batch.input_nodes]
        for name in self._mutable_outputs:
            batch.blocks[-1].dstdata[name] = self._graph.ndata[name][batch.seeds]

    def _finish_step(self) -> None:
        """The trainer is done with a batch: publish a window if it is full."""
        self._meter.finish()
        if not self._meter.is_full:
            return
        in_force = self._thread.in_force
        done = self._meter.window(
            settings=in_force.settings,
            settings_since=in_force.since,
            buffered_rows=self.num_buffered,
            waiting_batches=self.num_ready,
        )
        self._endpoint.port.publish(done)
        if self._on_window is not None:
            self._on_window(done.window)

    def expect(self, epochs: int) -> None:
        """Let the sampler run ahead into so many more epochs, and not further."""
        self._epochs.expect(epochs)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The loader fetches nothing inside, and the script may write what it delivers.

        Afterwards batches have the rows that were written by any trainer before.
        """
        started = time.perf_counter()
        with self._thread_paused():
            was_reading, self._writes.is_reading = self._writes.is_reading, False
            try:
                yield
            finally:
                self._writes.is_reading = was_reading
                self._thread.refresh(self._writes.take(), self._read)
        self._meter.leave_out(time.perf_counter() - started)

    @contextlib.contextmanager
    def _thread_paused(self) -> Iterator[None]:
        self._thread.pause()
        try:
            yield
        finally:
            self._thread.resume()

    def close(self) -> None:
        """End the loader's thread, and the controller. Again, it does nothing."""
        self._resources.close()

    @property
    def settings(self) -> BufferSettings:
        """The buffer settings in force."""
        return self._thread.settings

    @property
    def num_buffered(self) -> int:
        """Rows in the buffer."""
        return self.policy.num_buffered

    @property
    def num_ready(self) -> int:
        """Batches that wait for the trainer."""
        return self._thread.num_ready

    @property
    def num_halo(self) -> int:
        """Nodes of other partitions within one hop."""
        return len(self.view.halo)

    @property
    def row_bytes(self) -> int:
        """Bytes of one node's input rows."""
        return sum(tensor.row_bytes for tensor in self._inputs)

    def memory(self) -> Memory:
        """Bytes that the loader takes."""
        rows = self._pipeline.buffer_rows
        return Memory(
            peak_rss_bytes=peak_rss_bytes(),
            buffer_rows=rows,
            buffer_bytes=rows * self.row_bytes,
            budget_bytes=self._budget_rows * self.row_bytes,
            waiting_bytes=self._thread.max_waiting_bytes,
            map_bytes=self.policy.num_bytes,
            map_nodes=self.view.num_remote,
        )
