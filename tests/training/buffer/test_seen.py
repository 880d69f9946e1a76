"""Records are numbered in the order in which nodes come by, whatever the form of the map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.bench.policy_cost import VARIANTS
from rudder.training.buffer import directory as module
from rudder.training.buffer.directory import (
    MIN_BITS,
    NARROW,
    WHOLE_UP_TO,
    WIDE,
    SeenDirectory,
    WholeDirectory,
    find_hashed,
    has_hashed,
    make_directory,
)
from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.registry import PolicyOptions, make_policy, parse_variant
from rudder.training.errors import MachineError
from rudder.training.settings import BufferSettings
from tests.training.buffer.player import view_of


def batches(random: np.random.Generator, num_remote: int, step: int) -> list[IntArray]:
    """Distinct nodes in each, some in many of them, all multiples of `step`."""
    nodes = random.permutation(np.arange(0, num_remote, step)[-6000:])
    return [random.choice(nodes, random.integers(0, len(nodes)), replace=False) for _ in range(6)]


@given(
    seed=st.integers(0, 2**31),
    num_remote=st.sampled_from([3, 1000, 40_000, 3_000_000]),
    step=st.sampled_from([1, 3, 8, 512]),
)
@settings(max_examples=60, deadline=None)
def test_records_are_what_a_dictionary_says(seed: int, num_remote: int, step: int) -> None:
    directory, expected = SeenDirectory(num_remote), dict[int, int]()
    for nodes in batches(np.random.default_rng(seed), num_remote, step):
        known = [node in expected for node in nodes.tolist()]
        assert directory.is_seen(nodes).tolist() == known
        found = directory.find(nodes)
        for node in nodes.tolist():
            expected.setdefault(node, len(expected))
        assert found.tolist() == [expected[node] for node in nodes.tolist()]
        assert directory.nodes_of(found).tolist() == nodes.tolist()
        assert len(directory) == len(expected)


def test_records_found_stay_as_they_are_while_others_are_found() -> None:
    directory = SeenDirectory(1000)
    first = directory.find(np.array([7, 5, 900]))
    directory.find(np.arange(500))
    assert first.tolist() == [0, 1, 2]


def test_nodes_beyond_32_bits_are_told_apart() -> None:
    table, numbers = np.zeros(2**10, dtype=WIDE), np.zeros(8, dtype=np.int64)
    nodes = np.array([5, 2**32 + 5, 2**32, 0, 2**33 - 1])
    found, is_seen = np.empty(5, dtype=np.int64), np.empty(5, dtype=bool)
    has_hashed(nodes, table, 10, is_seen)
    assert not is_seen.any()
    for count in (0, 5):
        assert find_hashed(nodes, table, 10, numbers, count, found) == 5
        assert found.tolist() == [0, 1, 2, 3, 4]
    assert numbers[:5].tolist() == nodes.tolist()


def test_more_nodes_than_32_bits_can_number_are_refused() -> None:
    directory = SeenDirectory(1000)
    directory._count = 2**31 - 3
    with pytest.raises(MachineError, match="2147483645 remote nodes were seen"):
        directory.find(np.arange(3))
    assert directory.find(np.arange(0)).tolist() == []


def test_as_many_nodes_as_32_bits_can_number_are_found() -> None:
    directory = SeenDirectory(1000)
    directory.find(np.arange(3))
    directory._count = 2**31 - 4
    assert directory.find(np.arange(3)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("num_remote", "entry", "number"),
    [
        (2**31 - 1, NARROW, np.int32),
        (2**31, NARROW, np.int64),
        (2**32, NARROW, np.int64),
        (2**32 + 1, WIDE, np.int64),
    ],
)
def test_numbers_are_as_wide_as_the_graph_needs(
    num_remote: int, entry: np.dtype[Any], number: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is allocated: not every machine grants 34 GB that are never written."""
    asked: list[tuple[int, np.dtype[Any]]] = []
    monkeypatch.setattr(module, "zeros", lambda size, kind: asked.append((size, kind)))
    SeenDirectory(num_remote)
    assert asked == [(2**MIN_BITS, entry), (num_remote, np.dtype(number))]


def test_a_hash_table_is_at_most_half_full() -> None:
    directory = SeenDirectory(1_000_000)
    for count, bits in ((512, 10), (513, 11), (1024, 11), (1025, 12)):
        directory.find(np.arange(len(directory), count))
        assert directory.map_bytes == 8 << bits


def test_bytes_of_the_map_the_list_and_the_memory_of_answers_are_counted() -> None:
    directory = SeenDirectory(1_000_000)
    beside = []
    for start in (0, 500):
        directory.find(np.arange(start, start + 500))
        beside.append(directory.num_bytes - directory.map_bytes - 4 * len(directory))
    assert beside[0] == beside[1] >= 8 * 500


def test_a_hash_table_becomes_an_array_where_that_takes_less() -> None:
    directory = SeenDirectory(100_000)
    directory.find(np.arange(15_000))
    assert directory.map_bytes == 8 * 2**15
    directory.find(np.arange(20_000))
    assert directory.map_bytes == 4 * 100_000


def test_of_111_million_nodes_the_map_takes_little_while_few_were_seen() -> None:
    num_remote = 111_000_000
    directory = SeenDirectory(num_remote)
    directory.find(np.arange(0, num_remote, 1000))
    assert directory.num_bytes < 2**23


@pytest.mark.parametrize("num_remote", [1, WHOLE_UP_TO, WHOLE_UP_TO + 1])
def test_only_a_small_graph_has_a_record_of_every_node(num_remote: int) -> None:
    directory = make_directory(num_remote)
    is_whole = num_remote <= WHOLE_UP_TO
    assert isinstance(directory, WholeDirectory) == is_whole
    assert directory.is_seen(np.arange(1)).tolist() == [is_whole]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_policy_plans_the_same_whether_its_records_are_of_all_nodes_or_of_those_seen(
    variant: str,
) -> None:
    name, options = parse_variant(variant, PolicyOptions(epoch_batches=10))
    small, large = view_of(3000), view_of(WHOLE_UP_TO + 3000)
    settings = BufferSettings(capacity_rows=400)
    both = [make_policy(name, view, settings, options) for view in (small, large)]
    step = large.num_remote // small.num_remote
    random = np.random.default_rng(3)
    for _ in range(40):
        nodes = random.permutation(np.unique((3000 * random.random(500) ** 3).astype(np.int64)))
        plans = []
        for policy, scale in zip(both, (1, step), strict=True):
            policy.observe(nodes * scale)
            plans.append(policy.plan(nodes * scale))
        for each in ("hits", "hit_slots", "misses", "admitted", "admitted_slots", "target_slots"):
            assert getattr(plans[0], each).tolist() == getattr(plans[1], each).tolist()
        assert (plans[0].targets * step).tolist() == plans[1].targets.tolist()
