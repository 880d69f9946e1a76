"""What all loaders have in common: the loop over batches, and how a loader begins and ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from rudder.training import distdgl
from rudder.training.buffer.options import BufferOptions
from rudder.training.control.endpoint import ControlEndpoint
from rudder.training.errors import ConfigError
from rudder.training.loading import arguments
from rudder.training.loading.access_sample import sample_of
from rudder.training.loading.batch import Batch
from rudder.training.loading.epoch_queue import EpochQueue
from rudder.training.loading.loader_thread import LoaderThread
from rudder.training.loading.options import RunOptions, SamplingOptions
from rudder.training.loading.pipeline import Pipeline, QueueLimits
from rudder.training.loading.process_group import process_group
from rudder.training.loading.requests import open_requests
from rudder.training.loading.resources import LoaderResources
from rudder.training.loading.row_stages import EdgeStage, RowStage, settings_for_edges
from rudder.training.loading.sampling_stage import SamplingStage, sample_whole, uniform_fanouts
from rudder.training.loading.seed_order import SeedOrder, seed_from_torch
from rudder.training.loading.seeds import Seeds
from rudder.training.loading.setup import (
    budget_rows,
    edge_policy_of,
    edges_per_node,
    loader_info,
    loader_info_of,
    policy_of,
    with_trace,
)
from rudder.training.loading.state import BEGINNING, LoaderState, check_resumable, restore
from rudder.training.loading.tensors import Delivery, row_bytes_of
from rudder.training.loading.window_meter import WindowMeter
from rudder.training.loading.writes import Writes
from rudder.training.machine import peak_rss_bytes
from rudder.training.metrics import Memory
from rudder.training.partition_view import PartitionView
from rudder.training.sampling.neighbor import NeighborSampling
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import SteeringOptions
from rudder.training.wire.rpc_gate import open_gate


class Loader:
    """Delivers batches that a thread prepares ahead; subclasses say how a script sees them."""

    resumes_within_epochs = True

    def __init__(
        self,
        graph: Any,
        sampler: Any,
        *,
        seeds_of: Callable[[PartitionView], Seeds],
        course: arguments.Course,
        names: arguments.TensorNames,
        device: Any,
        buffer: BufferOptions,
        steering: SteeringOptions | None,
        sampling: SamplingOptions,
        run: RunOptions,
    ) -> None:
        """Prepare as NodeLoader says; seeds_of: makes the seeds, once the graph is known."""
        group = process_group()
        self._device = arguments.device_of(device)
        self._on_window = run.on_window
        self._iterating = False
        with_edge_ids = sampling.edge_ids or bool(names.edge_inputs)
        self.view = distdgl.view_of(graph, with_edge_ids=with_edge_ids)
        open_gate()
        seed_of_draws = seed_from_torch() if course.seed is None else course.seed
        seeds = seeds_of(self.view)
        order = SeedOrder(
            seeds.ids,
            course,
            phases=arguments.phases_of(sampling.order, num_nodes=len(seeds.ids)),
            seed=(seed_of_draws, group.rank),
        )
        self._num_batches = len(order)
        begun = run.resume_from or BEGINNING
        check_resumable(begun, seed=course.seed, num_batches=self._num_batches)
        self._epoch, self._num_done, self._next_step = begun.epoch, begun.batch, begun.step
        self._delivery = Delivery(graph, names)
        self._writes = Writes(self._delivery.ahead, group)
        edge_inputs, edges = self._delivery.named("edge_inputs"), distdgl.edge_view_of(graph)
        share = edges_per_node(edge_inputs, nodes=self.view, edges=edges)
        row_bytes = row_bytes_of(self._delivery.named("inputs"))
        self.row_bytes = row_bytes + share * row_bytes_of(edge_inputs)
        """Bytes of a row of capacity: a node's inputs, and those of its share of the edges."""
        known = loader_info(
            group,
            trainers_on_host=distdgl.trainers_on_host(),
            policy=buffer.policy_and_options[0],
            row_bytes=self.row_bytes,
            course=course,
            num_batches=self._num_batches,
            fanouts=uniform_fanouts(sampler),
        )
        budget_bytes = buffer.memory_budget_bytes
        if budget_bytes is None and steering is not None:
            budget_bytes = steering.memory_budget_bytes
        self._budget_rows = budget_rows(known, budget_bytes=budget_bytes)
        policy = policy_of(
            known,
            self.view,
            buffer,
            seeds=seeds.nodes,
            seed=seed_of_draws,
            most_rows=self._budget_rows,
        )
        self.policy, trace_writer = with_trace(policy, run.trace, self.view, known)
        self._endpoint = ControlEndpoint(
            group,
            policy=self.policy,
            loader_info_of=lambda key: loader_info_of(self.view, self.policy, known, run_key=key),
            control=run.control,
            controller=steering,
            memory_budget_bytes=budget_bytes,
            folder=run.folder,
            run_key=begun.run_key,
        )
        if begun is not BEGINNING:
            restore(self.policy, begun, max_rows=min(self._budget_rows, self.view.num_remote))
            self._endpoint.steering.tell_of_resume(begun.step)
        port = self._endpoint.port
        sample = sample_of(self.view, policy=known.policy, is_wanted=lambda: port.wants_accesses)
        self._meter = WindowMeter(
            group.rank,
            rate=sample.rate,
            first_epoch=begun.epoch,
            first_window=begun.window,
            wanted_steps=lambda: port.window_steps,
        )
        pending = open_requests(self.view, with_edge_ids=with_edge_ids)
        common: dict[str, Any] = {"pending": pending, "num_batches": QueueLimits().assembled}
        edge_stage = None
        if self._delivery.has_edges:
            settings = settings_for_edges(self.policy.settings, share, view=edges)
            edge_stage = EdgeStage(
                edges,
                edge_policy_of(known, edges, buffer, settings=settings),
                inputs=edge_inputs,
                outputs=self._delivery.named("pair_outputs"),
                nodes=self.policy,
                edges_per_node=share,
                **common,
            )
        self._pipeline = Pipeline(
            pending=pending,
            sampling=SamplingStage(
                pending,
                NeighborSampling(self.view),
                fanouts=known.fanouts or (),
                sample_whole=None if known.fanouts else sample_whole(sampler, graph),
                seeds_use_rpc=seeds.uses_rpc,
            ),
            nodes=RowStage(
                self.view,
                self.policy,
                inputs=self._delivery.named("inputs"),
                outputs=self._delivery.named("outputs"),
                **common,
            ),
            edges=edge_stage,
            limits=QueueLimits(),
            begin=seeds.begin,
            sample=sample,
            first_number=begun.step,
        )
        self._thread = LoaderThread(
            self._pipeline,
            ready=QueueLimits().ready,
            steering=self._endpoint.steering,
            timeout_s=run.timeout_s,
        )
        self._epochs = EpochQueue(
            order,
            self._thread,
            epochs=course.epochs,
            first_epoch=begun.epoch,
            skipped=begun.batch,
        )
        self._resources = LoaderResources(self, self._thread, self._endpoint, trace_writer)

    def __len__(self) -> int:
        """Batches of one epoch."""
        return self._num_batches

    def batches(self) -> Iterator[Batch]:
        """One epoch's batches with their accounts. Raises ConfigError once it is closed."""
        if self._iterating:
            raise ConfigError(
                "this loader is iterated already, and its batches come in one order",
                remedy="finish or leave the first loop, or make a second loader",
            )
        if written := self._writes.take():
            with self._thread_paused():
                self._thread.refresh(written, self._delivery.read)
        self._epochs.begin()
        self._iterating = self._writes.is_reading = True
        self._meter.start_epoch()
        finished = False
        try:
            while self._num_done < len(self):
                self._meter.begin()
                batch = self._thread.take()
                self._delivery.add_late(batch)
                self._meter.hand_over(batch)
                self._num_done, self._next_step = self._num_done + 1, batch.number + 1
                yield batch.on(self._device)
                self._finish_step()
            finished = True
            self._writes.check_epoch()
        finally:
            self._iterating = self._writes.is_reading = False
            self._epoch, self._num_done = self._epoch + 1, 0
            self._epochs.end(finished=finished)

    def state(self) -> LoaderState:
        """Where this loader stands: the batch that was handed over last counts as done.

        It is for `RunOptions(resume_from=...)` of a loader with the same arguments. Call it on the
        thread that takes the batches.
        """
        return LoaderState(
            epoch=self._epoch,
            batch=self._num_done,
            step=self._next_step,
            window=self._meter.num_windows,
            run_key=self._endpoint.run_key,
            settings=self.settings,
            buffered=self._pipeline.buffered_nodes(),
        )

    def leave_out(self, seconds: float) -> None:
        """So much of the step under way was no training; its window does not count it."""
        self._meter.leave_out(seconds)

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
                self._thread.refresh(self._writes.take(), self._delivery.read)
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

    def memory(self) -> Memory:
        """Bytes that the loader takes."""
        rows = self._pipeline.buffer_rows
        return Memory(
            peak_rss_bytes=peak_rss_bytes(),
            buffer_rows=rows,
            buffer_bytes=rows * self.row_bytes,
            budget_bytes=self._budget_rows * self.row_bytes,
            waiting_bytes=self._thread.max_waiting_bytes,
            map_bytes=self._pipeline.map_bytes,
            map_nodes=self.view.num_remote,
        )
