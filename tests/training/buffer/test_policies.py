"""What holds for every policy of the Policy protocol, whatever is asked of it and when."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rudder.training.buffer.own import NewBuffer, OwnBuffer
from rudder.training.buffer.policies.lookahead import LookaheadBuffer
from rudder.training.buffer.policy import IntArray, Policy
from rudder.training.buffer.registry import POLICIES as BY_NAME
from rudder.training.buffer.registry import NoBuffer, PolicyOptions, make_policy, parse_variant
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change, FetchTargets
from tests.training.buffer.player import Player, array, view_of

NUM_REMOTE = 40
VIEW = view_of(NUM_REMOTE)
REMOTE_IDS = VIEW.to_global(np.arange(NUM_REMOTE)).tolist()

MakePolicy = Callable[[PartitionView, BufferSettings], Policy]
KNOWN = PolicyOptions(fanouts=(3, 2), epoch_batches=6)
FETCHES_TWICE = "score:faithful=true+interval=2"


def of_variant(variant: str) -> MakePolicy:
    name, options = parse_variant(variant, KNOWN)
    return lambda view, settings: make_policy(name, view, settings, options)


class LastUsed(OwnBuffer):
    """LRU, as somebody else may write it."""

    def __init__(self, buffer: NewBuffer) -> None:
        super().__init__(buffer)
        self.batch = 0
        self.last = np.zeros(self.num_nodes, dtype=np.int64)

    def use(self, nodes: IntArray) -> None:
        self.batch += 1
        self.last[nodes] = self.batch

    def worth(self, nodes: IntArray) -> IntArray:
        return self.last[nodes]


VARIANTS = (
    *BY_NAME,
    "score:interval=1",
    "score:interval=3+start=empty+alpha=0.5",
    "score:interval=0+start=random",
    FETCHES_TWICE,
    "static:source=degree",
    "static:source=vip",
)
POLICIES: dict[str, MakePolicy] = {variant: of_variant(variant) for variant in VARIANTS} | {
    "lookahead that forgets fast": lambda view, settings: LookaheadBuffer(
        view, settings, half_life_batches=0.5
    ),
    "own": lambda view, settings: LastUsed(NewBuffer(view, settings)),
}
ADMITTING = [name for name in POLICIES if not name.startswith("score")]

batches = st.sets(st.integers(0, NUM_REMOTE - 1))
capacities = st.one_of(st.integers(0, NUM_REMOTE), st.sampled_from([0, 1, 41, 10_000, 2**31 - 1]))
targets = st.builds(
    FetchTargets,
    source=st.sampled_from(["observed", "degree", "vip", "hot_set", "owner", "ids"]),
    row_budget=st.integers(1, 2 * NUM_REMOTE),
    owner=st.sampled_from([None, 0, 1, 2, 3]),
    ids=st.lists(st.sampled_from(REMOTE_IDS), max_size=8).map(tuple),
)


def optional(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | values


changes = st.builds(
    Change,
    capacity_rows=optional(capacities),
    eviction_threshold=optional(st.sampled_from([0.0, 1e-9, 0.01, 0.1, 0.5, 0.99, 1.0])),
    lookahead_batches=optional(st.integers(0, 1024)),
    replacement_interval=optional(st.integers(0, 4)),
    fetch_targets=optional(targets),
    replace_now=st.booleans(),
)


class AnyOrder(RuleBasedStateMachine):
    """Observes, plans, skips and changes in any order; Player asserts what must hold."""

    name: str

    @initialize(capacity=st.integers(0, NUM_REMOTE + 5))
    def start(self, capacity: int) -> None:
        policy = POLICIES[self.name](VIEW, BufferSettings(capacity_rows=capacity))
        self.player = player_of(self.name, policy)
        self.policy = self.player.policy

    @rule(nodes=batches, again=st.integers(1, 3))
    def observe(self, nodes: set[int], again: int) -> None:
        for _ in range(again):
            self.player.observe(array(nodes))

    @precondition(lambda self: self.player.waiting)
    @rule()
    def plan(self) -> None:
        self.player.plan()

    @precondition(lambda self: self.player.waiting)
    @rule()
    def skip(self) -> None:
        self.player.skip()

    @rule(change=changes)
    def change(self, change: Change) -> None:
        before = self.policy.settings
        if self.policy.refusal(change) is not None:
            assert self.policy.settings == before
            return
        self.policy.apply(change)
        given = change.model_dump(exclude_none=True, exclude={"fetch_targets", "replace_now"})
        assert self.policy.settings == before.model_copy(update=given)
        assert self.policy.num_buffered <= self.policy.settings.capacity_rows

    def teardown(self) -> None:
        while self.player.waiting:
            self.player.plan()


def player_of(name: str, policy: Policy) -> Player:
    return Player(policy, may_fetch_twice=name == FETCHES_TWICE)


@pytest.fixture(params=POLICIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(name: str) -> MakePolicy:
    return POLICIES[name]


def test_changes_at_any_boundary_in_any_order_lose_no_row_and_corrupt_none(name: str) -> None:
    machine = type("Machine", (AnyOrder,), {"name": name})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=40, stateful_step_count=40, deadline=None)
    )


def random_change(random: np.random.Generator, num_remote: int) -> Change:
    kind = random.integers(6)
    capacity = int(random.choice([0, 1, 50, num_remote // 4, num_remote, 2 * num_remote]))
    budget = int(random.integers(1, num_remote))
    return (
        Change(capacity_rows=capacity),
        Change(capacity_rows=int(random.integers(0, num_remote))),
        Change(eviction_threshold=float(random.choice([0.0, 0.05, 0.3, 1.0]))),
        Change(fetch_targets=FetchTargets(source="observed", row_budget=budget)),
        Change(fetch_targets=FetchTargets(source="degree", row_budget=budget)),
        Change(replace_now=True, lookahead_batches=int(random.integers(0, 100))),
    )[kind]


@pytest.mark.parametrize("seed", range(4))
def test_wide_batches_of_any_width_and_any_lookahead_are_served_right(
    name: str, make: MakePolicy, seed: int
) -> None:
    random = np.random.default_rng(seed)
    num_remote = 3000
    worth = random.pareto(1.2, num_remote) + 0.01
    player = player_of(name, make(view_of(num_remote), BufferSettings(capacity_rows=500)))
    for _ in range(60):
        for _ in range(random.integers(0, 12)):
            width = int(random.choice([0, 5, 300, 2500]))
            player.observe(random.choice(num_remote, width, replace=False, p=worth / worth.sum()))
        if random.random() < 0.3:
            change = random_change(random, num_remote)
            if player.policy.refusal(change) is None:
                player.policy.apply(change)
        for _ in range(min(len(player.waiting), random.integers(0, 12))):
            player.plan()
        if player.waiting and random.random() < 0.1:
            player.skip()
    while player.waiting:
        player.plan()
    assert player.policy.num_bytes < 2**21


@pytest.mark.parametrize("name", ADMITTING)
def test_a_batch_without_remote_nodes_changes_nothing(make: MakePolicy) -> None:
    player = Player(make(VIEW, BufferSettings(capacity_rows=4)))
    player.play([array({1, 2})], ahead=0)
    before = dict(player.held)
    player.play([array(set())], ahead=0)
    assert player.held == before


def test_equal_batches_and_changes_give_equal_plans(name: str, make: MakePolicy) -> None:
    random = np.random.default_rng(5)
    trace = [np.flatnonzero(random.random(NUM_REMOTE) < 0.3) for _ in range(40)]
    held = []
    for _ in range(2):
        player = player_of(name, make(VIEW, BufferSettings(capacity_rows=7)))
        player.play(trace, ahead=3)
        held.append(player.held)
    assert held[0] == held[1]


@pytest.mark.parametrize("name", ADMITTING)
def test_without_requests_free_admission_never_fetches_more_than_no_buffer(
    make: MakePolicy,
) -> None:
    random = np.random.default_rng(6)
    trace = [np.flatnonzero(random.random(NUM_REMOTE) < 0.3) for _ in range(60)]
    player = Player(make(VIEW, BufferSettings(capacity_rows=9)))
    player.play(trace, ahead=2)
    assert player.rows_fetched <= sum(len(nodes) for nodes in trace)
    assert player.rows_fetched == sum(len(nodes) for nodes in trace) - player.hits


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "none"])
@pytest.mark.parametrize("source", ["observed", "degree", "vip", "hot_set", "owner", "ids"])
def test_targets_of_every_source_fill_a_grown_buffer(
    name: str, make: MakePolicy, source: str
) -> None:
    player = player_of(name, make(VIEW, BufferSettings(capacity_rows=2)))
    for _ in range(8):
        player.play([array(range(NUM_REMOTE))], ahead=0)
    wanted = FetchTargets.model_validate(
        {
            "source": source,
            "row_budget": 4,
            "owner": 2 if source == "owner" else None,
            "ids": tuple(REMOTE_IDS[8:20]) if source in ("ids", "hot_set") else (),
        }
    )
    change = Change(capacity_rows=20, fetch_targets=wanted)
    assert player.policy.refusal(change) is None
    player.policy.apply(change)
    player.observe(array(set()))
    plan = player.plan()
    assert len(plan.targets) >= 4
    assert player.buffered >= set(plan.targets.tolist())


@pytest.mark.parametrize(
    "change",
    [
        Change(eviction_threshold=0.5),
        Change(replacement_interval=2),
        Change(replace_now=True),
        Change(capacity_rows=0, fetch_targets=FetchTargets(source="degree", row_budget=1)),
        Change(fetch_targets=FetchTargets(source="owner", row_budget=1, owner=1)),
    ],
)
def test_a_refusal_names_what_is_refused(make: MakePolicy, change: Change) -> None:
    policy = make(VIEW, BufferSettings(capacity_rows=3))
    before = policy.settings
    reason = policy.refusal(change)
    assert policy.settings == before
    if reason is not None:
        assert any(name in reason for name in change.model_fields_set)
    else:
        policy.apply(change)


def test_an_empty_change_is_not_refused_and_changes_nothing(make: MakePolicy) -> None:
    policy = make(VIEW, BufferSettings(capacity_rows=3))
    before = policy.settings
    assert policy.refusal(Change()) is None
    policy.apply(Change())
    assert policy.settings == before


def test_the_lookahead_can_be_changed(make: MakePolicy) -> None:
    policy = make(VIEW, BufferSettings(capacity_rows=3))
    change = Change(lookahead_batches=7)
    assert policy.refusal(change) is None
    policy.apply(change)
    assert policy.settings.lookahead_batches == 7


@pytest.mark.parametrize(
    "change",
    [
        Change(capacity_rows=3),
        Change(eviction_threshold=0.5),
        Change(replacement_interval=5),
        Change(fetch_targets=FetchTargets(source="degree", row_budget=1)),
        Change(replace_now=True),
    ],
)
def test_no_buffer_refuses_by_name_what_means_nothing_to_it(change: Change) -> None:
    reason = NoBuffer(BufferSettings(capacity_rows=0)).refusal(change)
    (name,) = change.model_fields_set
    assert reason is not None
    assert name in reason
