"""Where to go before anything can be estimated."""

from __future__ import annotations

import pytest
from tests.agents.test_precedent import GOOD, START, WORK, came_to

from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.agents.starting_point import FirstSettings
from rudder.memory.records import Observation
from rudder.training.settings import BufferSettings, Change
from rudder.training.workload import PolicyName
from tests.agents.steered import observation_of, run, trainer_of

WAITING = {"exposed_wait_ms": 15.0, "step_ms": 30.0}
DEFAULTS = BufferSettings(capacity_rows=1500)


def waiting(settings: BufferSettings, **values: float) -> Observation:
    return observation_of(settings=settings, **{**WAITING, **values})


def test_a_trainer_that_waits_far_from_the_defaults_goes_near_them() -> None:
    absurd = BufferSettings(capacity_rows=60, lookahead_batches=0, eviction_threshold=0.0)
    found = FirstSettings.of([], waiting(absurd), WORK)
    assert found is not None
    assert found.settings == DEFAULTS.model_copy(update={"lookahead_batches": 16})
    assert found.effect is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (BufferSettings(capacity_rows=5000, lookahead_batches=0), (5000, 16)),
        (BufferSettings(capacity_rows=0, lookahead_batches=64), (1500, 64)),
        (BufferSettings(capacity_rows=375, lookahead_batches=10), None),
    ],
)
def test_a_knob_that_is_beyond_its_default_stays(
    settings: BufferSettings, expected: tuple[int, int] | None
) -> None:
    found = FirstSettings.of([], waiting(settings), WORK)
    went = found and (found.settings.capacity_rows, found.settings.lookahead_batches)
    assert went == expected


def test_who_does_little_but_wait_is_given_room_for_the_whole_halo() -> None:
    found = FirstSettings.of([], waiting(START, exposed_wait_ms=16.0), WORK)
    assert found is not None
    assert found.settings.capacity_rows == WORK.num_halo


def test_who_hardly_waits_stays() -> None:
    assert FirstSettings.of([], waiting(START, exposed_wait_ms=2.5), WORK) is None


def test_the_memory_of_the_host_is_a_bound() -> None:
    small = WORK.model_copy(update={"max_buffer_rows": 700})
    found = FirstSettings.of([], waiting(START), small)
    assert found is not None
    assert found.settings.capacity_rows == 700


@pytest.mark.parametrize("policy", ["score", "lfu", "none"])
def test_the_defaults_are_those_of_one_policy(policy: PolicyName) -> None:
    other = WORK.model_copy(update={"policy": policy})
    assert FirstSettings.of([], waiting(START), other) is None


def test_what_an_earlier_run_came_to_goes_before_the_defaults() -> None:
    found = FirstSettings.of([came_to()], waiting(START), WORK)
    assert found is not None
    assert found.settings == GOOD
    assert FirstSettings.of([came_to(wait_ms=14.0)], waiting(START), WORK) is None


def test_a_change_leads_there_in_part_of_the_capacity_but_of_no_other_knob() -> None:
    first = FirstSettings.of([came_to()], waiting(START), WORK)
    assert first is not None

    def leads(change: Change) -> bool:
        return first.leads_to(change, settings=START)

    assert leads(Change(capacity_rows=2000, lookahead_batches=16))
    assert leads(Change(capacity_rows=1000, lookahead_batches=16))
    assert not leads(Change(capacity_rows=2001, lookahead_batches=16))
    assert not leads(Change(capacity_rows=99, lookahead_batches=16))
    assert not leads(Change(capacity_rows=2000))
    assert not leads(Change(capacity_rows=2000, lookahead_batches=16, replace_now=True))


def test_steering_from_absurd_settings_begins_with_the_first_window() -> None:
    trainer = trainer_of(BufferSettings(capacity_rows=60, lookahead_batches=0))
    lived = run(trainer, planner=EmbeddedPlanner(), windows=4)
    first, *_ = lived.applied
    assert first.observation.step == 16
    assert first.outcome is not None
    assert (first.outcome.result, first.outcome.rows_error) == ("confirmed", None)
    near = BufferSettings(capacity_rows=WORK.num_halo, lookahead_batches=16)
    assert lived.windows[1].settings == near
