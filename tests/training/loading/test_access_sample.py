"""The sample of accesses: the same nodes in every batch, a stated share of them, in order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.training.loading.access_sample import WANTED_NODES, AccessSample, sample_of
from rudder.training.metrics import AccessSlice
from tests.training.buffer.player import view_of

MASK = 2**64 - 1


def splitmix64(node: int) -> int:
    """As published, on Python's whole numbers."""
    mixed = (node + 0x9E3779B97F4A7C15) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    return mixed ^ (mixed >> 31)


nodes_of_a_batch = st.lists(st.integers(0, 2**31 - 1), max_size=200, unique=True)


@settings(deadline=None)
@given(st.integers(1, 10**7), st.lists(nodes_of_a_batch, max_size=4))
def test_a_node_is_in_all_batches_that_use_it_or_in_none(
    num_halo: int, batches: list[list[int]]
) -> None:
    sample = AccessSample(num_halo=num_halo)
    for batch in batches:
        chosen = sample.choose(np.array(batch, dtype=np.int64))
        assert chosen is not None
        assert chosen.dtype == np.int32
        limit = sample.rate * 2**64
        assert chosen.tolist() == [node for node in batch if splitmix64(node) < limit]


def test_a_small_halo_is_shown_whole() -> None:
    sample = AccessSample(num_halo=WANTED_NODES)
    nodes = np.arange(50_000)[::-1].copy()
    chosen = sample.choose(nodes)
    assert sample.rate == 1
    assert chosen is not None
    assert np.array_equal(chosen, nodes)


def test_of_a_large_halo_some_8192_nodes_are_shown() -> None:
    sample = AccessSample(num_halo=1_000_000)
    chosen = sample.choose(np.arange(1_000_000))
    assert chosen is not None
    assert abs(len(chosen) - WANTED_NODES) < 5 * WANTED_NODES**0.5


def test_nothing_is_chosen_while_nobody_wants_it() -> None:
    wanted = [False]
    sample = sample_of(view_of(100), policy="lookahead", is_wanted=lambda: wanted[0])
    assert sample.choose(np.arange(10)) is None
    wanted[0] = True
    chosen = sample.choose(np.arange(10))
    assert chosen is not None
    assert len(chosen) == 10
    kept = AccessSlice.of([chosen], rate=sample.rate).batches()
    assert [batch.tolist() for batch in kept] == [list(range(10))]


def test_without_a_buffer_there_is_no_sample() -> None:
    sample = sample_of(view_of(100), policy="none", is_wanted=lambda: True)
    assert sample.choose(np.arange(10)) is None
