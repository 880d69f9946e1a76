"""Which rows an eager fetch chooses."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.training.buffer.directory import Directory, SeenDirectory, WholeDirectory
from rudder.training.buffer.targets import InclusionProbability, choose_all, refusal_of_targets
from rudder.training.settings import FetchTargets
from tests.training.buffer.player import view_of

NUM_REMOTE = 20
VIEW = view_of(NUM_REMOTE)
HEAT = np.arange(NUM_REMOTE, dtype=np.float32)
IDS = tuple(VIEW.to_global(np.arange(9)).tolist())


def choose(
    *pending: FetchTargets,
    present: Set[int] = frozenset(),
    directory: Directory | None = None,
    vip: InclusionProbability | None = None,
) -> list[int]:
    """directory: default one of all nodes; else heat and presence are of the nodes it has seen."""
    directory = directory or WholeDirectory(NUM_REMOTE)
    seen = directory.nodes_of(np.arange(len(directory)))
    blocked = np.isin(seen, list(present))
    records = choose_all(pending, VIEW, directory, heat=HEAT[seen], blocked=blocked, vip=vip)
    return list(directory.nodes_of(records).tolist())


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


def test_several_fetches_choose_no_row_twice() -> None:
    hottest = FetchTargets(source="observed", row_budget=3)
    assert choose(hottest, hottest, present={18}) == [19, 17, 16, 15, 14, 13]


@pytest.mark.parametrize("source", ["observed", "owner", "degree", "ids"])
def test_what_was_seen_in_any_order_is_chosen_as_if_all_were_known(source: str) -> None:
    values = {"source": source, "row_budget": 5, "owner": 0, "ids": IDS}
    wanted = FetchTargets.model_validate(values)
    directory = SeenDirectory(NUM_REMOTE)
    directory.find(np.random.default_rng(1).permutation(NUM_REMOTE))
    chosen = choose(wanted, present={8, 14}, directory=directory)
    assert chosen == choose(wanted, present={8, 14})


def test_rows_never_seen_can_be_chosen_and_are_seen_then() -> None:
    directory = SeenDirectory(NUM_REMOTE)
    directory.find(np.array([14, 2]))
    wanted = FetchTargets(source="ids", row_budget=9, ids=IDS)
    again = FetchTargets(source="degree", row_budget=2)
    chosen = choose(wanted, again, present={14}, directory=directory)
    assert chosen[:9] == list(range(9))
    assert len(set(chosen)) == 11
    assert 14 not in chosen
    assert directory.is_seen(np.array(chosen)).all()


def test_what_was_chosen_unseen_has_no_uses_yet() -> None:
    directory = SeenDirectory(NUM_REMOTE)
    directory.find(np.array([19, 3, 18]))
    first = FetchTargets(source="ids", row_budget=2, ids=IDS)
    chosen = choose(first, FetchTargets(source="observed", row_budget=9), directory=directory)
    assert chosen == [0, 1, 19, 18, 3]


def test_vip_takes_what_batches_need_most_often_and_while_idle_only_what_they_likely_need() -> None:
    vip, halo = InclusionProbability(VIEW, (-1,), 30, np.arange(60)), VIEW.to_remote(VIEW.halo)
    vip.__dict__["of_halo"] = np.array([0.3, *np.arange(1, len(halo)) / 1000])
    wanted = FetchTargets(source="vip", row_budget=2)
    assert choose(wanted, vip=vip) == [halo[0], halo[-1]]
    assert choose(wanted.model_copy(update={"while_idle": True}), vip=vip) == [halo[0]]
    by_degree = FetchTargets(source="degree", row_budget=2, while_idle=True)
    assert set(choose(by_degree, vip=vip)) == {4, 14}
    assert refusal_of_targets(wanted, VIEW, vip=vip) is None


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
            "ids": IDS,
        }
    )
    chosen = choose(wanted, present=present)
    assert len(set(chosen)) == len(chosen) <= budget
    assert not set(chosen) & present


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"source": "owner", "owner": 0}, None),
        ({"source": "owner", "owner": 2}, None),
        (
            {"source": "owner", "owner": 1},
            "fetch_targets.owner = 1 is not another partition; allowed: 0 to 2 without 1",
        ),
        (
            {"source": "owner", "owner": 3},
            "fetch_targets.owner = 3 is not another partition; allowed: 0 to 2 without 1",
        ),
        ({"source": "ids", "ids": IDS}, None),
        (
            {"source": "ids", "ids": (*IDS, 9999)},
            "fetch_targets.ids must be remote nodes of this graph; these are not: [9999]",
        ),
        (
            {"source": "ids"},
            "fetch_targets.ids must be remote nodes of this graph; there are none",
        ),
        (
            {"source": "hot_set"},
            "no hot set of an earlier run on the same work is known; use vip",
        ),
        (
            {"source": "hot_set", "ids": (9999,)},
            "fetch_targets.ids must be remote nodes of this graph; these are not: [9999]",
        ),
        (
            {"source": "vip"},
            "fetch_targets.source = vip needs fan-outs, which this sampler does not have",
        ),
        ({"source": "degree"}, None),
    ],
)
def test_a_refusal_says_what_is_wrong(values: dict[str, object], reason: str | None) -> None:
    wanted = FetchTargets.model_validate({"row_budget": 5, **values})
    assert refusal_of_targets(wanted, VIEW, vip=None) == reason


@pytest.mark.parametrize(("batch_size", "is_likely"), [(30, True), (31, False)])
def test_likely_are_rows_of_which_an_epoch_needs_half_or_more(
    batch_size: int, is_likely: bool
) -> None:
    """Of 60 seeds two batches of 30, each of which needs the row with a probability of 1 / 4."""
    probability = InclusionProbability(VIEW, (-1,), batch_size, np.arange(60))
    probability.__dict__["of_halo"] = np.full(len(VIEW.halo), 0.25)
    assert probability.of_likely.any() == is_likely
