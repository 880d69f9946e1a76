"""What may be changed in a running trainer: bounds, strictness, and nothing by accident."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from rudder.training.settings import (
    MAX_LOOKAHEAD_BATCHES,
    Applied,
    BufferSettings,
    Change,
    Command,
    FetchTargets,
)

MAX_ROWS = 2**31 - 1
rows = st.integers(0, MAX_ROWS)
thresholds = st.floats(0, 1)
lookaheads = st.integers(0, MAX_LOOKAHEAD_BATCHES)
targets = st.builds(
    FetchTargets,
    source=st.sampled_from(["observed", "degree", "owner", "ids"]),
    row_budget=st.integers(1, MAX_ROWS),
    owner=st.none() | st.integers(0, 1000),
    ids=st.lists(st.integers(0, 2**62), max_size=20).map(tuple),
)
changes = st.builds(
    Change,
    capacity_rows=st.none() | rows,
    eviction_threshold=st.none() | thresholds,
    lookahead_batches=st.none() | lookaheads,
    fetch_targets=st.none() | targets,
    replace_now=st.booleans(),
)
commands = st.builds(Command, command_id=st.text(min_size=1, max_size=64), change=changes)
answers = st.builds(
    Applied,
    command_id=st.text(max_size=64),
    outcome=st.sampled_from(["applied", "refused"]),
    rank=st.integers(0, 1000),
    step=st.integers(0, 10**9),
    settings=st.builds(
        BufferSettings,
        capacity_rows=rows,
        eviction_threshold=thresholds,
        lookahead_batches=lookaheads,
    ),
    reason=st.none() | st.text(),
)


@given(commands | answers)
def test_a_message_survives_its_way_as_json(message: BaseModel) -> None:
    assert type(message).model_validate_json(message.model_dump_json()) == message


def test_an_empty_change_changes_nothing_and_any_other_does() -> None:
    assert Change().is_empty
    for change in (
        Change(capacity_rows=0),
        Change(eviction_threshold=0.0),
        Change(lookahead_batches=0),
        Change(fetch_targets=FetchTargets(source="degree", row_budget=1)),
        Change(replace_now=True),
    ):
        assert not change.is_empty


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("capacity_rows", -1),
        ("capacity_rows", MAX_ROWS + 1),
        ("capacity_rows", 1.0),
        ("capacity_rows", True),
        ("capacity_rows", "5"),
        ("eviction_threshold", -0.01),
        ("eviction_threshold", 1.01),
        ("eviction_threshold", float("nan")),
        ("eviction_threshold", float("inf")),
        ("lookahead_batches", -1),
        ("lookahead_batches", MAX_LOOKAHEAD_BATCHES + 1),
        ("fetch_targets", {"source": "magic", "row_budget": 1}),
        ("fetch_targets", {"source": "ids", "row_budget": 0}),
        ("fetch_targets", {"source": "ids", "row_budget": 1, "ids": [-1]}),
        ("fetch_targets", {"source": "ids", "row_budget": 1, "ids": [0] * 100_001}),
        ("replace_now", "yes"),
        ("replace_now", 1),
        ("unknown", 1),
    ],
)
def test_a_value_outside_its_bounds_or_of_another_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=name):
        Change.model_validate({name: value})
    with pytest.raises(ValidationError, match=name):
        Change.model_validate_json(json.dumps({name: value}))


@pytest.mark.parametrize("command_id", ["", "x" * 65, 7, None])
def test_a_command_needs_an_id_of_1_to_64_characters(command_id: object) -> None:
    with pytest.raises(ValidationError, match="command_id"):
        Command.model_validate({"command_id": command_id})


def test_settings_cannot_be_changed_in_place() -> None:
    settings = BufferSettings(capacity_rows=1)
    with pytest.raises(ValidationError, match="frozen"):
        settings.capacity_rows = 2  # type: ignore[misc]


full_settings = st.builds(
    BufferSettings,
    capacity_rows=rows,
    eviction_threshold=thresholds,
    lookahead_batches=lookaheads,
    replacement_interval=st.integers(0, 1000),
)


@given(full_settings, full_settings)
def test_what_lies_between_two_settings_leads_from_one_to_the_other(
    old: BufferSettings, new: BufferSettings
) -> None:
    change = Change.between(old, new)
    assert change.over(old) == new
    assert change.is_empty == (old == new)


@given(changes, full_settings)
def test_a_change_leaves_what_it_does_not_name(change: Change, old: BufferSettings) -> None:
    new = change.over(old)
    for name in BufferSettings.model_fields:
        asked = getattr(change, name)
        assert getattr(new, name) == (getattr(old, name) if asked is None else asked)


def test_a_command_is_the_users_unless_it_says_so() -> None:
    assert Command(command_id="a").origin == "user"
    with pytest.raises(ValidationError, match="origin"):
        Command.model_validate({"command_id": "a", "origin": "planner"})
