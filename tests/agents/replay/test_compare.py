"""Decisions are equal where every field is, but for what a processor rounds."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rudder.agents.replay.compare import Decision, Difference, differences
from rudder.memory.records import GuardResult, Observation, Plan, Verdict
from rudder.tools.calls import ToolCall
from rudder.training.settings import Change
from tests.agents.steered import effect_of, observation_of

changes = st.builds(
    Change,
    capacity_rows=st.none() | st.integers(0, 5),
    eviction_threshold=st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    lookahead_batches=st.none() | st.integers(0, 3),
    replace_now=st.booleans(),
)


GROW = Change(capacity_rows=5)
SEEN = observation_of()


def decision(
    change: Change = GROW,
    *,
    observation: Observation = SEEN,
    rows: float = 100.0,
    call_id: str = "1",
    allowed: bool = True,
) -> Decision:
    expected = effect_of(rows, 1.0)
    call = ToolCall(call_id=call_id, tool="set_buffer_capacity", arguments={"capacity_rows": 5})
    return Decision(
        observation,
        ("a", "b"),
        Plan(planner="p", change=change, expected=expected, reason="r", calls=(call,)),
        Verdict(decision="approve", critic="c", change=change, expected=expected, reason="r"),
        GuardResult(allowed=allowed, rule=None if allowed else "age", reason="r"),
    )


@given(changes, changes)
def test_changes_are_told_apart(one: Change, other: Change) -> None:
    found = differences(decision(one), decision(other))
    assert (found == []) == (one == other)


@given(st.floats(1e-3, 1e9), st.sampled_from([1, 2, 3]))
def test_last_digits_of_figures_do_not_count(rows: float, steps: int) -> None:
    near = rows
    for _ in range(steps):
        near = math.nextafter(near, math.inf)
    assert differences(decision(rows=rows), decision(rows=near)) == []
    assert differences(decision(rows=rows), decision(rows=rows * 1.001)) != []


def test_ids_of_calls_do_not_count() -> None:
    assert differences(decision(call_id="1"), decision(call_id="2")) == []


def test_reasons_and_fields_that_an_old_record_does_not_have_do_not_count() -> None:
    told = SEEN.model_dump(mode="json", exclude={"row_ms"})
    old = decision(observation=Observation.model_validate(told))
    new = decision(observation=observation_of(row_ms=0.5))
    new = replace(new, plan=new.plan.model_copy(update={"reason": "in other words"}))
    assert differences(old, new) == []
    assert differences(new, decision(observation=observation_of(row_ms=0.7))) != []


def test_what_was_seen_counts() -> None:
    other = decision(observation=observation_of(trend="worse"))
    assert differences(decision(), other) == [Difference("observation.trend", "steady", "worse")]


def test_a_node_that_was_not_got_to_is_a_difference() -> None:
    one = decision()
    other = Decision(one.observation, one.recalled, one.plan, one.verdict, None)
    assert [each.field for each in differences(one, other)] == ["guard"]


def test_nothing_is_done_where_anybody_is_against_it() -> None:
    assert decision().change == GROW
    assert decision(allowed=False).change == Change()
