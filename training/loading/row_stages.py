"""What a batch needs of rows: looked up in the buffer, asked for, and put together.

The rows of nodes and those of edges are two stages of the same kind, each with its own buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from rudder.training.buffer.policy import IntArray, Policy
from rudder.training.buffer.rows import MemoryPool
from rudder.training.loading.accounts import RowCounter
from rudder.training.loading.assembly import Assembly
from rudder.training.loading.batch import Batch, Fetch, InFlightBatch, Lookup
from rudder.training.loading.requests import PendingRequests
from rudder.training.loading.tensors import GraphTensor
from rudder.training.metrics import RowCounts
from rudder.training.partition_view import PartitionView
from rudder.training.sampling.neighbor import Numbering
from rudder.training.settings import BufferSettings, Change

ReadRows = Callable[[GraphTensor, IntArray], torch.Tensor]
"""Reads a tensor's rows of int64[n] global ids as they are now."""
_MAX_ROWS = 2**31 - 1


class RowStage:
    """The rows of nodes, or of edges, of one loader. Belongs to one thread.

    Rows of `inputs` are buffered; those of `outputs`, which an epoch needs once, are not.
    """

    def __init__(
        self,
        view: PartitionView,
        policy: Policy,
        *,
        pending: PendingRequests,
        inputs: Sequence[GraphTensor],
        outputs: Sequence[GraphTensor],
        num_batches: int,
    ) -> None:
        """num_batches: whose rows are in memory at once."""
        self.view, self.policy = view, policy
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._pending = pending
        self.pool = MemoryPool(max_blocks=len(inputs) * num_batches)
        self.assembly = Assembly(
            inputs, capacity=policy.settings.capacity_rows, first=view.first, pool=self.pool
        )
        self._counter = RowCounter(view, inputs, outputs)
        self._numbering = Numbering()

    def needed(self, in_flight: InFlightBatch) -> Lookup:
        """Which rows a sampled batch needs; each once, though a script may give seeds twice."""
        ids, seeds, answers = in_flight.nodes, in_flight.seeds, in_flight.answers
        if len(np.unique(seeds)) == len(seeds):
            return Lookup(ids, seeds, answers=answers)
        ids, places = self._numbering.number(ids)
        return Lookup(ids, seeds, answers=answers, places=torch.from_numpy(places))

    def observe(self, in_flight: InFlightBatch) -> None:
        """Tell local from remote rows of a sampled batch, and show the policy the remote ones."""
        lookup, view = self.needed(in_flight), self.view
        is_local = (lookup.ids >= view.first) & (lookup.ids < view.last)
        lookup.local, lookup.remote = np.flatnonzero(is_local), np.flatnonzero(~is_local)
        lookup.remote_numbers = view.to_remote(lookup.ids[lookup.remote])
        self.policy.observe(lookup.remote_numbers)
        in_flight.lookups.append(lookup)

    def plan(self, lookup: Lookup) -> None:
        """Decide which of the rows are buffered."""
        lookup.plan = self.policy.plan(lookup.remote_numbers)

    def ask(self, in_flight: InFlightBatch, lookup: Lookup) -> None:
        """Ask for the rows that are neither local nor buffered."""
        plan, view = lookup.planned, self.view
        wanted = np.concatenate([lookup.remote_numbers[plan.misses], plan.targets])
        asked = self._pull(in_flight, view.to_global(wanted), self.inputs)
        num_missed = len(plan.misses)
        lookup.fetches = tuple(
            Fetch(ticket, chosen[chosen < num_missed], chosen[chosen >= num_missed] - num_missed)
            for ticket, chosen in asked
        )
        ids = lookup.outputs
        away = np.flatnonzero((ids < view.first) | (ids >= view.last))
        asked = self._pull(in_flight, ids[away], self.outputs)
        lookup.output_tickets = tuple((ticket, away[chosen]) for ticket, chosen in asked)

    def _pull(
        self, in_flight: InFlightBatch, ids: IntArray, tensors: Sequence[GraphTensor]
    ) -> Iterator[tuple[int, IntArray]]:
        """Ask the owners of `ids` for rows: the ticket of each, and positions in `ids`."""
        keys = [tensor.key for tensor in tensors]
        if not keys:
            return
        owners = self.view.owners(ids)
        for owner in np.unique(owners).tolist():
            chosen = np.flatnonzero(owners == owner)
            first = int(self.view.starts[owner])
            yield self._pending.pull(in_flight, owner, ids[chosen], keys, first=first), chosen

    def assemble(self, batch: Batch, lookup: Lookup) -> None:
        """Give a batch all rows that are now here, and change the buffer as planned."""
        for tensor, rows in self.assembly.run(lookup).items():
            tensor.put(batch, rows if lookup.places is None else rows[lookup.places])
        for tensor in self.outputs:
            tensor.put(batch, self._outputs_of(tensor, lookup))

    def _outputs_of(self, tensor: GraphTensor, lookup: Lookup) -> torch.Tensor:
        local = torch.from_numpy(lookup.outputs - self.view.first)
        if not lookup.output_tickets:
            return tensor.local[local]
        out = tensor.local[local.clamp(0, len(tensor.local) - 1)]
        for ticket, places in lookup.output_tickets:
            out[torch.from_numpy(places)] = lookup.rows(ticket)[tensor.key]
        return out

    def count(self, lookup: Lookup, *, is_idle: bool = False) -> RowCounts:
        """The rows of a planned batch, or of an eager fetch while the loader was idle."""
        return self._counter.count(lookup, is_idle=is_idle)

    def refresh(self, tensor: GraphTensor, read: ReadRows, lookups: Sequence[Lookup]) -> None:
        """Read the buffered rows of a written tensor again, and those of look-ups under way."""
        view = self.view
        if tensor in self.inputs:
            self.assembly.refresh(tensor, lambda remote: read(tensor, view.to_global(remote)))
            for lookup in lookups:
                for fetch in lookup.fetches:
                    ids = view.to_global(lookup.numbers_of(fetch))
                    lookup.replace(fetch.ticket, tensor.key, read(tensor, ids))
        if tensor in self.outputs:
            for lookup in lookups:
                for ticket, places in lookup.output_tickets:
                    lookup.replace(ticket, tensor.key, read(tensor, lookup.outputs[places]))


class EdgeStage(RowStage):
    """The rows of edges: those of all blocks are inputs, those of the pair graph are outputs.

    The settings of its buffer follow those of the nodes' buffer, but for the capacity: so many
    edges for each node.
    """

    def __init__(self, *args: Any, nodes: Policy, edges_per_node: int, **options: Any) -> None:
        """nodes: the policy of the nodes' rows; else as RowStage."""
        super().__init__(*args, **options)
        self._nodes, self._edges_per_node = nodes, edges_per_node
        self._followed = nodes.settings

    def needed(self, in_flight: InFlightBatch) -> Lookup:
        """Each edge once, though several blocks may have it."""
        drawn = np.concatenate(in_flight.edge_ids) if self.inputs else np.empty(0, dtype=np.int64)
        ids, places = self._numbering.number(drawn)
        outputs = ids[:0] if in_flight.pairs is None else in_flight.pairs.edges
        return Lookup(ids, outputs, answers=in_flight.answers, places=torch.from_numpy(places))

    def plan(self, lookup: Lookup) -> None:
        """Take over what was changed of the nodes' settings, then plan."""
        settings = self._nodes.settings
        if settings is not self._followed:
            self._followed = settings
            wanted = settings_for_edges(settings, self._edges_per_node, view=self.view)
            change = Change.between(self.policy.settings, wanted)
            if self.policy.refusal(change) is None:
                self.policy.apply(change)
        super().plan(lookup)


def settings_for_edges(
    nodes: BufferSettings, edges_per_node: int, *, view: PartitionView
) -> BufferSettings:
    """The settings of the edges' buffer beside those of the nodes' buffer; view: of edges."""
    rows = min(nodes.capacity_rows * edges_per_node, view.num_remote, _MAX_ROWS)
    return nodes.model_copy(update={"capacity_rows": rows})
