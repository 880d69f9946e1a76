"""Uniform neighbour sampling without replacement, one layer at a time.

A layer is drawn in two halves so that a loader never waits: `begin` draws the in-edges of inner
nodes at once and says which nodes other partitions must draw; `finish` joins their answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rudder.training.partition_view import IntArray, PartitionView
from rudder.training.sampling import kernels
from rudder.training.sampling.edge_filter import EdgeFilter

_WORD = 2**64 - 1
_NONE: IntArray = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class LayerDraw:
    """What a layer's random choice depends on, beside the nodes.

    fanout: in-edges of a node at most, -1 for all; key: 64 bits, see `draw_key`.
    """

    fanout: int
    key: int


def draw_key(*numbers: int) -> int:
    """A 64-bit hash of whole numbers in their order (SplitMix64's, one number after the other)."""
    key = 0
    for number in numbers:
        key = ((key ^ number) + 0x9E3779B97F4A7C15) & _WORD
        key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & _WORD
        key ^= key >> 31
    return key


@dataclass(frozen=True)
class Edges:
    """In-edges drawn for a list of nodes, grouped by node in the list's order.

    counts: int64[n] edges of each node; sources: int64[e] global ids;
    edge_ids: int64[e] global edge ids, or None where nobody asked.
    """

    counts: IntArray
    sources: IntArray
    edge_ids: IntArray | None


@dataclass(frozen=True)
class SamplingRequest:
    """Nodes whose in-edges their owner must draw; `positions` are theirs in the frontier."""

    owner: int
    positions: IntArray
    nodes: IntArray


@dataclass(frozen=True)
class HalfLayer:
    """A layer with the inner nodes' edges drawn and the others' still asked for."""

    frontier: IntArray
    local: Edges
    questions: tuple[SamplingRequest, ...]


@dataclass(frozen=True)
class SampledLayer:
    """One message-flow block in CSC form.

    nodes: int64[src] global ids, the num_dst destinations first; indptr: int64[num_dst + 1];
    indices: int64[e] positions in `nodes`; edge_ids: int64[e] or None.
    """

    nodes: IntArray
    num_dst: int
    indptr: IntArray
    indices: IntArray
    edge_ids: IntArray | None

    @property
    def num_bytes(self) -> int:
        """Memory of the arrays."""
        edge_bytes = 0 if self.edge_ids is None else self.edge_ids.nbytes
        return self.nodes.nbytes + self.indptr.nbytes + self.indices.nbytes + edge_bytes


class Numbering:
    """Numbers ids in the order of their first appearance; its table is used again and again."""

    def __init__(self) -> None:
        self._table = np.zeros((1024, 2), dtype=np.int64)
        self._generation = 0

    def number(self, ids: IntArray, *, known: IntArray = _NONE) -> tuple[IntArray, IntArray]:
        """The distinct ids and the number of each of `ids`; `known`, distinct, come first."""
        num_known, size = len(known), len(ids)
        distinct = np.empty(num_known + size, dtype=np.int64)
        distinct[:num_known] = known
        numbers = np.empty(size, dtype=np.int64)
        self._make_room(2 * len(distinct))
        count = kernels.renumber(distinct, num_known, ids, self._table, self._generation, numbers)
        return distinct[:count], numbers

    def _make_room(self, cells: int) -> None:
        self._generation += 1
        if cells > len(self._table) or self._generation >= 2**31:
            size = max(1 << cells.bit_length(), len(self._table))
            self._table = np.zeros((size, 2), dtype=np.int64)
            self._generation = 1


class NeighborSampling:
    """Draws layers on one partition; equal keys give a node equal in-edges."""

    def __init__(self, view: PartitionView) -> None:
        self._view = view
        self._numbering = Numbering()

    def draw(self, nodes: IntArray, draw: LayerDraw) -> Edges:
        """Draw in-edges of each inner node; others get none."""
        view, fanout, key = self._view, draw.fanout, np.uint64(draw.key)
        counts = np.empty(len(nodes), dtype=np.int64)
        total = kernels.count_picks(nodes, view.first, view.indptr, fanout, counts)
        picked = np.empty(total, dtype=np.int64)
        kernels.pick_edges(nodes, view.first, view.indptr, fanout, key, picked)
        sources = np.empty(total, dtype=np.int64)
        kernels.gather_sources(picked, view.indices, view.first, view.num_inner, view.halo, sources)
        edge_ids = None if view.csc_edge_ids is None else view.csc_edge_ids[picked]
        return Edges(counts=counts, sources=sources, edge_ids=edge_ids)

    def begin(self, frontier: IntArray, draw: LayerDraw) -> HalfLayer:
        """Draw what is local of `frontier` (distinct global ids) and list what is not."""
        local = self.draw(frontier, draw)
        return HalfLayer(frontier=frontier, local=local, questions=self._questions(frontier))

    def finish(
        self, half: HalfLayer, answers: Sequence[Edges], edge_filter: EdgeFilter | None = None
    ) -> SampledLayer:
        """Join the owners' answers, in the order of `half.questions`, into one block."""
        edges = _join(half, answers) if half.questions else half.local
        if edge_filter is not None:
            edges = _kept(edges, half.frontier, edge_filter)
        nodes, indices = self._numbering.number(edges.sources, known=half.frontier)
        return SampledLayer(
            nodes=nodes,
            num_dst=len(half.frontier),
            indptr=_offsets(edges.counts),
            indices=indices,
            edge_ids=edges.edge_ids,
        )

    def _questions(self, frontier: IntArray) -> tuple[SamplingRequest, ...]:
        view = self._view
        positions = np.flatnonzero((frontier < view.first) | (frontier >= view.last))
        if not len(positions):
            return ()
        nodes = frontier[positions]
        owners = view.owners(nodes)
        return tuple(
            SamplingRequest(owner=int(owner), positions=positions[mine], nodes=nodes[mine])
            for owner in np.unique(owners)
            for mine in [owners == owner]
        )


def _offsets(counts: IntArray) -> IntArray:
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def _kept(edges: Edges, frontier: IntArray, edge_filter: EdgeFilter) -> Edges:
    keeps = edge_filter.keeps(frontier, edges.counts, edges.sources, edges.edge_ids)
    ends = _offsets(edges.counts)
    before = _offsets(keeps.astype(np.int64))
    return Edges(
        counts=before[ends[1:]] - before[ends[:-1]],
        sources=edges.sources[keeps],
        edge_ids=None if edges.edge_ids is None else edges.edge_ids[keeps],
    )


def _join(half: HalfLayer, answers: Sequence[Edges]) -> Edges:
    counts = half.local.counts.copy()
    for question, answer in zip(half.questions, answers, strict=True):
        counts[question.positions] = answer.counts
    offsets = _offsets(counts)
    groups = np.arange(len(counts))
    with_ids = half.local.edge_ids is not None
    sources = np.empty(offsets[-1], dtype=np.int64)
    edge_ids = np.empty(offsets[-1], dtype=np.int64) if with_ids else None
    parts = [(groups, half.local)]
    parts += [(q.positions, a) for q, a in zip(half.questions, answers, strict=True)]
    for positions, part in parts:
        kernels.scatter_groups(positions, part.counts, offsets, part.sources, sources)
        if edge_ids is not None:
            assert part.edge_ids is not None, "an owner's answer lacks edge ids"
            kernels.scatter_groups(positions, part.counts, offsets, part.edge_ids, edge_ids)
    return Edges(counts=counts, sources=sources, edge_ids=edge_ids)
