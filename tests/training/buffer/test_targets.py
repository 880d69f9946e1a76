"""Which rows an eager fetch chooses."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.training.buffer.targets import choose_targets
from rudder.training.settings import FetchTargets
from tests.training.buffer.player import view_of

NUM_REMOTE = 20
VIEW = view_of(NUM_REMOTE)
HEAT = np.arange(NUM_REMOTE, dtype=np.float32)


def choose(wanted: FetchTargets, *, present: Set[int] = frozenset()) -> list[int]:
    absent = np.ones(NUM_REMOTE, dtype=bool)
    absent[list(present)] = False
    return list(choose_targets(wanted, VIEW, heat=HEAT, absent=absent).tolist())


def test_observed_takes_the_hottest_first() -> None:
    assert choose(FetchTargets(source="observed", row_budget=3), present={18}) == [19, 17, 16]


def test_observed_leaves_out_what_was_never_used() -> None:
    assert 0 not in choose(FetchTargets(source="observed", row_budget=50))


def test_degree_takes_the_halo_nodes_with_most_edges_into_this_partition() -> None:
    chosen = choose(FetchTargets(source="degree", row_budget=4))
    assert set(chosen[:2]) == {4, 14}
    assert set(chosen[2:]) == {8, 18}


def test_degree_leaves_out_nodes_without_edges_into_this_partition() -> None:
    chosen = choose(FetchTargets(source="degree", row_budget=50))
    assert set(chosen) == {node for node in range(0, NUM_REMOTE, 2) if node % 5}


def test_owner_takes_the_hottest_of_one_partition() -> None:
    assert choose(FetchTargets(source="owner", owner=0, row_budget=2)) == [9, 8]
    assert choose(FetchTargets(source="owner", owner=2, row_budget=2)) == [19, 18]


def test_ids_are_taken_in_the_order_given_and_once_each() -> None:
    ids = tuple(VIEW.to_global(np.array([15, 3, 15, 7, 1])).tolist())
    assert choose(FetchTargets(source="ids", ids=ids, row_budget=3), present={3}) == [15, 7, 1]
    assert choose(FetchTargets(source="ids", ids=ids, row_budget=2)) == [15, 3]


@given(
    present=st.sets(st.integers(0, NUM_REMOTE - 1)),
    budget=st.integers(1, 30),
    source=st.sampled_from(["observed", "degree", "owner", "ids"]),
)
@settings(deadline=None)
def test_any_choice_is_absent_distinct_and_within_the_budget(
    present: set[int], budget: int, source: str
) -> None:
    wanted = FetchTargets.model_validate(
        {
            "source": source,
            "row_budget": budget,
            "owner": 2,
            "ids": tuple(VIEW.to_global(np.arange(9)).tolist()),
        }
    )
    chosen = choose(wanted, present=present)
    assert len(set(chosen)) == len(chosen) <= budget
    assert not set(chosen) & present
