"""The guard: nothing out of bounds passes, whatever a change was made of."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.agents.guard import Guard, Steps, limit_plan
from rudder.memory.records import GuardResult
from rudder.tools.limits import Limits
from rudder.training.settings import BufferSettings, Change
from rudder.training.workload import RefusedKnob
from tests.agents.steered import SETTINGS, observation_of, toolbox_after, trainer_of, window_of

WORKLOAD = trainer_of().workload.model_copy(
    update={"refused_knobs": (RefusedKnob(knob="replacement_interval", reason="no rounds"),)}
)
BUDGET_BYTES = 5000 * WORKLOAD.row_bytes
LIMITS = Limits.of(WORKLOAD, memory_budget_bytes=BUDGET_BYTES)
ODD = [
    math.nan, math.inf, -math.inf, -1, 0, 1, 2**31, 2**63, -(2**63), 1e308, 1e-9, 0.5, True,
    "1", None, [], 10**400, 4999, 5000, 5001, 625, 624, 64, 65,
]  # fmt: skip


def review(change: Change, guard: Guard | None = None, *, now: int = 160) -> GuardResult:
    return (guard or Guard()).review(
        change, observation=observation_of(), bounds=LIMITS, now_step=now
    )


def is_within(change: Change) -> bool:
    """The bounds written down a second time."""
    rows, ahead = change.capacity_rows, change.lookahead_batches
    threshold = change.eviction_threshold
    return (
        (rows is None or (type(rows) is int and 625 <= rows <= 5000))
        and (ahead is None or (type(ahead) is int and 8 <= ahead <= 128))
        and (threshold is None or (type(threshold) in (int, float) and 0 <= threshold <= 1))
        and change.replacement_interval is None
    )


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (Change(capacity_rows=5001), "limits"),
        (Change(replacement_interval=8), "limits"),
        (Change(capacity_rows=624), "step_size"),
        (Change(lookahead_batches=4), "step_size"),
        (Change(lookahead_batches=129), "step_size"),
        (Change.model_construct(capacity_rows=math.nan), "form"),  # type: ignore[arg-type]
    ],
)
def test_the_broken_rule_is_named(change: Change, rule: str) -> None:
    assert review(change).rule == rule


@dataclass(frozen=True)
class NoBounds:
    why: str | None = None

    def problem(self, change: Change, *, settings: BufferSettings | None = None) -> str | None:
        return self.why


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (Change(replacement_interval=16), None),
        (Change(replacement_interval=15), "step_size"),
        (Change(replacement_interval=64), None),
        (Change(replacement_interval=65), "step_size"),
        (Change(replacement_interval=0), None),
        (Change(capacity_rows=624), "step_size"),
        (Change(capacity_rows=625), None),
        (Change(capacity_rows=5001), "step_size"),
        (Change(capacity_rows=5000), None),
        (Change(lookahead_batches=7), "step_size"),
        (Change(lookahead_batches=8), None),
        (Change(lookahead_batches=128), None),
        (Change(lookahead_batches=129), "step_size"),
    ],
)
def test_a_step_may_go_to_its_bounds_and_no_further(change: Change, rule: str | None) -> None:
    steps = Steps(max_growth=2.0, max_shrink=4.0, free_rows=100, free_batches=16)
    seen = observation_of(settings=SETTINGS.model_copy(update={"replacement_interval": 32}))
    found = Guard(steps).review(change, observation=seen, bounds=NoBounds(), now_step=160)
    assert found.rule == rule


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        (Change(capacity_rows=10_000), "capacity_rows = 10000; allowed in one step: 625 to 5000"),
        (Change(lookahead_batches=1000), "lookahead_batches = 1000; allowed in one step: 8 to 128"),
        (
            Change(replacement_interval=99),
            "replacement_interval = 99; allowed in one step: 16 to 64",
        ),
    ],
)
def test_a_step_that_is_too_far_names_what_is_allowed(change: Change, allowed: str) -> None:
    steps = Steps(max_growth=2.0, max_shrink=4.0, free_rows=100, free_batches=16)
    seen = observation_of(settings=SETTINGS.model_copy(update={"replacement_interval": 32}))
    found = Guard(steps).review(change, observation=seen, bounds=NoBounds(), now_step=160)
    assert found.reason == allowed


def test_a_reason_is_cut_to_what_a_record_holds() -> None:
    found = Guard().review(
        Change(), observation=observation_of(), bounds=NoBounds("x" * 3000), now_step=160
    )
    assert (found.rule, len(found.reason)) == ("limits", 2000)


@pytest.mark.parametrize(("budget_rows", "wanted"), [(2500, None), (2499, 2499)])
def test_a_buffer_over_its_limit_shrinks_to_it(budget_rows: int, wanted: int | None) -> None:
    trainer = trainer_of()
    budget = budget_rows * trainer.workload.row_bytes
    assert limit_plan(toolbox_after(trainer, windows=0, budget_bytes=budget)) is None
    plan = limit_plan(toolbox_after(trainer, windows=1, budget_bytes=budget))
    assert (None if plan is None else plan.change.capacity_rows) == wanted


def test_a_rescue_may_grow_by_much_in_one_step() -> None:
    tiny = observation_of(settings=BufferSettings(capacity_rows=60, lookahead_batches=0))
    change = Change(capacity_rows=1900, lookahead_batches=48, eviction_threshold=1.0)
    assert Guard().review(change, observation=tiny, bounds=LIMITS, now_step=160).allowed


def test_a_buffer_over_a_new_budget_may_shrink_by_more_than_a_step() -> None:
    limits = Limits.of(WORKLOAD, memory_budget_bytes=100 * WORKLOAD.row_bytes)
    assert SETTINGS.capacity_rows == 2500
    for change in (Change(capacity_rows=100), Change(capacity_rows=0)):
        found = Guard().review(change, observation=observation_of(), bounds=limits, now_step=160)
        assert found.allowed


def test_one_change_is_in_flight() -> None:
    guard = Guard()
    guard.opened()
    assert review(Change(capacity_rows=2000), guard).rule == "in_flight"
    assert review(Change(capacity_rows=2000), Guard(state=guard.state)).rule == "in_flight"
    guard.closed(is_revert=False, step=160)
    assert review(Change(capacity_rows=2000), guard).allowed


def test_who_is_acquitted_need_not_wait_but_the_next_pause_is_no_shorter() -> None:
    guard = Guard()
    guard.closed(is_revert=True, step=160)
    assert review(Change(capacity_rows=2000), guard).rule == "cool_down"
    assert review(Change(capacity_rows=2000), Guard(state=guard.state)).rule == "cool_down"
    guard.acquit()
    assert not guard.is_quiet(0)
    assert review(Change(capacity_rows=2000), guard).allowed
    guard.closed(is_revert=True, step=0)
    assert guard.is_quiet(63)


@pytest.mark.parametrize(
    ("first_step", "seen", "is_stale"),
    [
        (160, {}, False),
        (16_000, {}, False),
        (160, {"rows": 260}, True),
        (160, {"wait_ms": 9.0}, True),
        (160, {"settings": SETTINGS.model_copy(update={"lookahead_batches": 8})}, True),
        (160, {"rows": 150, "wait_ms": 2.0}, False),
        (320, {"rows": 150}, True),
        (240, {"rows": 150}, False),
        (241, {"rows": 150}, True),
        (145, {"rows": 260}, True),
        (144, {"rows": 260}, False),
    ],
)
def test_a_decision_is_stale_once_its_regime_has_ended(
    first_step: int, seen: dict[str, Any], is_stale: bool
) -> None:
    latest = window_of(first_step, **{"settings": SETTINGS, **seen})
    found = Guard().review(
        Change(capacity_rows=2000),
        observation=observation_of(),
        bounds=LIMITS,
        now_step=first_step + 16,
        latest=latest,
    )
    assert found.rule == ("stale" if is_stale else None)


def test_each_further_revert_doubles_the_pause_and_a_confirmed_change_ends_that() -> None:
    guard = Guard()
    pauses = []
    for _ in range(10):
        guard.closed(is_revert=True, step=0)
        pauses.append(next(step for step in range(4096) if not guard.is_quiet(step)))
    assert pauses == [32, 64, 128, 256, 512, 1024, 2048, 2048, 2048, 2048]
    guard.closed(is_revert=False, step=0)
    guard.closed(is_revert=True, step=10_000)
    assert guard.is_quiet(10_031)
    assert not guard.is_quiet(10_032)
    assert review(Change(capacity_rows=2000), guard).rule == "cool_down"


@given(
    rows=st.none() | st.integers() | st.floats() | st.text(max_size=3),
    ahead=st.none() | st.integers() | st.floats(),
    threshold=st.none() | st.floats() | st.integers(),
    interval=st.none() | st.integers(),
)
def test_nothing_out_of_bounds_passes(
    rows: object, ahead: object, threshold: object, interval: object
) -> None:
    change = Change.model_construct(
        capacity_rows=rows,  # type: ignore[arg-type]
        lookahead_batches=ahead,  # type: ignore[arg-type]
        eviction_threshold=threshold,  # type: ignore[arg-type]
        replacement_interval=interval,  # type: ignore[arg-type]
    )
    if review(change).allowed:
        assert is_within(change)


def test_of_100_000_odd_changes_none_out_of_bounds_passes() -> None:
    chance = random.Random(0)
    allowed = 0
    for _ in range(100_000):
        values = {
            "capacity_rows": chance.choice(ODD),
            "lookahead_batches": chance.choice(ODD),
            "eviction_threshold": chance.choice(ODD),
            "replacement_interval": chance.choice([None, None, None, 1, -1, math.nan]),
        }
        kept = chance.sample(sorted(values), chance.randint(1, 4))
        change = Change.model_construct(**{name: values[name] for name in kept})  # type: ignore[arg-type]
        if review(change).allowed:
            allowed += 1
            assert is_within(change), change
    assert allowed > 1000
