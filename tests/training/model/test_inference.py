"""Inference shared among ranks gives what one machine gives on the whole graph."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import dgl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rudder.training.errors import RunError
from rudder.training.model import shard
from rudder.training.model.inference import infer
from rudder.training.model.models import BlockModel, ModelOptions, build_model
from rudder.training.model.own import MODEL_NAMES
from rudder.training.model.shard import Collectives, Shard
from rudder.training.partition_view import IntArray, PartitionView

NUM_NODES, NUM_EDGES, DIM, CLASSES = 240, 1500, 12, 5
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Sample:
    """A small random graph, and a model for it."""

    src: IntArray
    dst: IntArray
    features: Tensor
    model: BlockModel

    @classmethod
    def make(
        cls,
        kind: str,
        *,
        hidden: int = 8,
        num_layers: int = 2,
        dtype: torch.dtype = torch.float32,
    ) -> Sample:
        rng = np.random.default_rng(1)
        torch.manual_seed(1)
        options = ModelOptions(hidden=hidden, num_layers=num_layers, heads=2)
        model = build_model(kind, in_dim=DIM, num_classes=CLASSES, options=options).eval()
        assert isinstance(model, BlockModel)
        src, dst = rng.integers(NUM_NODES, size=(2, NUM_EDGES))
        return cls(src, dst, torch.randn(NUM_NODES, DIM).to(dtype), model)

    def expected(self) -> Tensor:
        """The model's outputs of all nodes, in one piece."""
        block = dgl.create_block(
            (torch.from_numpy(self.src), torch.from_numpy(self.dst)),
            num_src_nodes=NUM_NODES,
            num_dst_nodes=NUM_NODES,
        )
        with torch.no_grad():
            outputs: Tensor = self.model([block] * len(self.model.layers), self.features)
        return outputs

    def view(self, part: int, starts: IntArray) -> PartitionView:
        """What DistDGL gives partition `part`: all in-edges of its nodes, and their sources."""
        first, last = starts[part], starts[part + 1]
        mine = (self.dst >= first) & (self.dst < last)
        order = np.argsort(self.dst[mine], kind="stable")
        src, dst = self.src[mine][order], self.dst[mine][order] - first
        is_inner = (src >= first) & (src < last)
        halo = np.random.default_rng(part).permutation(np.unique(src[~is_inner]))
        local = np.full(NUM_NODES, -1)
        local[first:last] = np.arange(last - first)
        local[halo] = last - first + np.arange(len(halo))
        counts = np.bincount(dst, minlength=last - first)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return PartitionView(part=part, starts=starts, indptr=indptr, indices=local[src], halo=halo)


class ProcessGroup:
    """Where ranks that are threads of this process swap rows."""

    def __init__(self, num_ranks: int) -> None:
        self.barrier = threading.Barrier(num_ranks, timeout=60)
        self.table: list[list[Tensor]] = [[] for _ in range(num_ranks)]


class ThreadCollectives(Collectives):
    """Ranks are threads that meet in one process."""

    def __init__(self, rank: int, group: ProcessGroup) -> None:
        self.rank, self.num_ranks = rank, len(group.table)
        self._group = group

    def _swap(
        self, out: Tensor, rows: Tensor, received: list[int] | None, sent: list[int] | None
    ) -> None:
        assert sent is None or sum(sent) == len(rows)
        assert received is None or sum(received) == len(out)
        self._group.table[self.rank] = list(torch.split(rows, sent or [1] * self.num_ranks))
        self._group.barrier.wait()
        out.copy_(torch.cat([given[self.rank] for given in self._group.table]))
        self._group.barrier.wait()


def infer_here(
    sample: Sample,
    view: PartitionView,
    wanted: IntArray,
    *,
    batch_rows: int,
    collectives: Collectives | None = None,
    on_progress: Callable[[float], object] = lambda share: None,
) -> dict[int, Tensor]:
    """Outputs by global id of those of `wanted` that belong to this rank."""
    collectives = collectives or Collectives(CPU)
    shard = Shard.of(view, collectives)
    own = wanted[(wanted >= view.first + shard.first) & (wanted < view.first + shard.last)]
    with torch.no_grad():
        outputs = infer(
            sample.model,
            sample.features[view.first : view.last],
            shard,
            collectives,
            wanted=own - view.first,
            device=CPU,
            batch_rows=batch_rows,
            on_progress=on_progress,
        )
    return dict(zip(own.tolist(), outputs, strict=True))


def infer_on_ranks(
    sample: Sample,
    parts: list[int],
    starts: IntArray,
    wanted: IntArray,
    *,
    on_progress: list[float] | None = None,
) -> dict[int, Tensor]:
    """The same on one thread per entry of `parts`, which says whose partition it has."""
    group = ProcessGroup(len(parts))

    def run(rank: int) -> dict[int, Tensor]:
        view = sample.view(parts[rank], starts)
        collectives = ThreadCollectives(rank, group)
        beats = [] if on_progress is None else on_progress
        return infer_here(
            sample,
            view,
            wanted,
            batch_rows=17,
            collectives=collectives,
            on_progress=beats.append,
        )

    with ThreadPoolExecutor(len(parts)) as pool:
        found = list(pool.map(run, range(len(parts))))
    merged = {node: row for rows in found for node, row in rows.items()}
    assert sum(map(len, found)) == len(merged), "two ranks gave the same node"
    return merged


def assert_equal(sample: Sample, found: dict[int, Tensor], wanted: IntArray) -> None:
    expected = sample.expected()
    torch.testing.assert_close(
        found, {node: expected[node] for node in wanted.tolist()}, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", MODEL_NAMES)
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_chunks_give_what_the_whole_gives(kind: str, num_layers: int) -> None:
    sample = Sample.make(kind, num_layers=num_layers)
    view = sample.view(0, np.array([0, NUM_NODES]))
    everything = np.arange(NUM_NODES)
    for batch_rows in (7, 1000):
        assert_equal(
            sample, infer_here(sample, view, everything, batch_rows=batch_rows), everything
        )


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, NUM_NODES - 1)))
def test_any_choice_of_nodes_gives_their_rows_of_the_whole(chosen: set[int]) -> None:
    sample = Sample.make("sage", dtype=torch.float16)
    view = sample.view(0, np.array([0, NUM_NODES]))
    wanted = np.array(sorted(chosen), dtype=np.int64)
    assert_equal(sample, infer_here(sample, view, wanted, batch_rows=16), wanted)


@pytest.mark.parametrize("kind", MODEL_NAMES)
@pytest.mark.parametrize(
    ("parts", "starts"),
    [
        ([0, 1], [0, 100, NUM_NODES]),
        ([1, 0], [0, 100, NUM_NODES]),
        ([0, 0, 1, 1], [0, 101, NUM_NODES]),
        ([0, 1, 0], [0, 1, NUM_NODES]),
    ],
    ids=["one each", "ranks against partitions", "two each", "more ranks than nodes"],
)
def test_ranks_together_give_what_one_machine_gives(
    kind: str, parts: list[int], starts: list[int]
) -> None:
    sample = Sample.make(kind)
    wanted = np.flatnonzero(np.random.default_rng(3).random(NUM_NODES) < 0.3)
    assert_equal(sample, infer_on_ranks(sample, parts, np.array(starts), wanted), wanted)


def test_rows_go_between_ranks_in_pieces_that_show_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sample, wanted, starts = (
        Sample.make("sage"),
        np.arange(NUM_NODES),
        np.array([0, 100, NUM_NODES]),
    )
    beats: list[float] = []
    assert_equal(sample, infer_on_ranks(sample, [0, 1], starts, wanted, on_progress=beats), wanted)
    few = len(beats)
    monkeypatch.setattr(shard, "_ROUND_BYTES", 5 * 4 * 8)
    assert_equal(sample, infer_on_ranks(sample, [0, 1], starts, wanted, on_progress=beats), wanted)
    assert len(beats) - few > few + 10
    assert min(beats) < 0.2
    assert max(beats) == 1


@pytest.mark.parametrize("wanted", [[], [0], [NUM_NODES - 1]])
def test_a_rank_may_have_nothing_of_its_own_to_give(wanted: list[int]) -> None:
    sample = Sample.make("sage", hidden=16, num_layers=3)
    nodes = np.array(wanted, dtype=np.int64)
    starts = np.array([0, 100, NUM_NODES])
    assert_equal(sample, infer_on_ranks(sample, [0, 1], starts, nodes), nodes)


def test_a_partition_without_a_trainer_is_refused() -> None:
    sample = Sample.make("sage")
    with pytest.raises(RunError, match="each partition needs a trainer"):
        Shard.of(sample.view(0, np.array([0, 100, NUM_NODES])), Collectives(CPU))


@settings(max_examples=50, deadline=None)
@given(
    degrees=st.lists(st.integers(0, 9), max_size=30),
    rows=st.integers(1, 10),
    edges=st.integers(1, 20),
)
def test_chunks_cover_all_nodes_once_within_their_bounds(
    degrees: list[int], rows: int, edges: int
) -> None:
    indptr = np.concatenate([[0], np.cumsum(np.array(degrees, dtype=np.int64))])
    view = PartitionView(
        part=0,
        starts=np.array([0, len(degrees)]),
        indptr=indptr,
        indices=np.zeros(indptr[-1], dtype=np.int64),
        halo=np.empty(0, dtype=np.int64),
    )
    shard = Shard.of(view, Collectives(CPU))
    nodes = np.arange(len(degrees))
    chunks = list(shard.chunks(nodes, rows=rows, edges=edges))
    assert [node for chunk in chunks for node in nodes[chunk]] == nodes.tolist()
    for chunk in chunks:
        assert 1 <= len(nodes[chunk]) <= rows
        assert len(nodes[chunk]) == 1 or sum(degrees[chunk]) <= edges
