"""Compile all loops ahead of time: `python -m rudder.training.warm_up`.

Fills numba's cache (see compiled.py) for the argument types of real runs, so that the first epoch
does not wait for the compiler: it runs small buffers and samplers, without torch.
"""

from __future__ import annotations

import numpy as np

from rudder.training.buffer.directory import WHOLE_UP_TO, SeenDirectory
from rudder.training.buffer.registry import POLICIES, PolicyOptions, make_policy
from rudder.training.buffer.rows import BufferRows, as_words, copy_rows
from rudder.training.loading.access_sample import AccessSample
from rudder.training.partition_view import PartitionView
from rudder.training.sampling import kernels
from rudder.training.sampling.neighbor import LayerDraw, NeighborSampling
from rudder.training.settings import BufferSettings, Change

_WORD_BYTES = (1, 2, 4, 8)


def warm_up() -> None:
    """Call every compiled loop once, with the types that loader and servers use."""
    _sample(with_edge_ids=False)
    _sample(with_edge_ids=True)
    _seen()
    for name in POLICIES:
        _policy(name)
    for row_bytes in _WORD_BYTES:
        _copy(row_bytes)
    AccessSample(num_halo=1).choose(np.arange(2))


def _view(part: int, *, with_edge_ids: bool) -> PartitionView:
    """One of two partitions of two nodes each; every node is linked to all nodes."""
    return PartitionView(
        part=part,
        starts=np.array([0, 2, 4]),
        indptr=np.array([0, 4, 8]),
        indices=np.tile(np.arange(4), 2),
        halo=np.array([2, 3]) - 2 * part,
        csc_edge_ids=np.arange(8) + 8 * part if with_edge_ids else None,
    )


def _sample(*, with_edge_ids: bool) -> None:
    here, there = (NeighborSampling(_view(part, with_edge_ids=with_edge_ids)) for part in (0, 1))
    draw = LayerDraw(fanout=2, key=0)
    half = here.begin(np.arange(4), draw)
    answers = [there.draw(question.nodes, draw) for question in half.questions]
    here.finish(half, answers)
    kernels.count_runs(np.array([2, 3]), np.array([2, 2]), np.empty(2, dtype=np.int64))


def _policy(name: str) -> None:
    """Run one policy so that it grows, shrinks, and fetches eagerly what it dropped."""
    view = _view(0, with_edge_ids=False)
    policy = make_policy(
        name, view, BufferSettings(capacity_rows=2), PolicyOptions(fanouts=(1,), source="vip")
    )
    batch = np.array([0, 1])
    changes = (Change(), Change(capacity_rows=1), Change(replace_now=True))
    for change, nodes in zip(changes, (batch, batch, batch[:0]), strict=True):
        if policy.refusal(change) is None:
            policy.apply(change)
        policy.observe(nodes)
        policy.plan(nodes)


def _seen() -> None:
    """Look up nodes of a large graph, in a hashed map that grows and in a dense one."""
    for num_remote in (WHOLE_UP_TO + 1, 1000):
        directory = SeenDirectory(num_remote)
        for count in (2, 2000):
            directory.find(np.arange(min(count, num_remote)))
            directory.is_seen(np.arange(1))


def _copy(row_bytes: int) -> None:
    rows = as_words(np.zeros((2, row_bytes), dtype=np.uint8))
    buffer = BufferRows(2, row_bytes)
    buffer.store(rows, np.arange(2), np.arange(2))
    copy_rows(rows, np.arange(2), rows, np.arange(2))


if __name__ == "__main__":
    warm_up()
