"""What an earlier run came to counts for the same work only, and only as far as it goes."""

from __future__ import annotations

from collections.abc import Sequence

from rudder.agents.starting_point import Precedent
from rudder.memory.journal import Recalled
from rudder.memory.records import Episode, Outcome, Plan
from rudder.training.settings import Applied, BufferSettings, Change
from rudder.training.workload import Workload
from tests.agents.steered import observation_of, trainer_of

WORK = trainer_of().workload
EARLIER = WORK.model_copy(update={"run_key": "e" * 32})
START = BufferSettings(capacity_rows=100, lookahead_batches=4)
GOOD = BufferSettings(capacity_rows=2000, lookahead_batches=16)


def came_to(
    settings: BufferSettings = GOOD,
    *,
    wait_ms: float = 1.0,
    result: str = "confirmed",
    work: Workload = EARLIER,
) -> Recalled:
    """An episode of an earlier run that changed START to these settings."""
    episode = Episode(
        episode_id="e",
        run_key=work.run_key,
        rank=0,
        number=0,
        observation=observation_of(settings=START),
        plan=Plan(
            planner="p", change=Change.between(START, settings), expected=None, reason="for a test"
        ),
        applied=Applied(command_id="c", outcome="applied", rank=0, step=64, settings=settings),
        outcome=Outcome.model_validate(
            {"result": result, "rows_after": 50.0, "wait_ms_after": wait_ms}
        ),
    )
    return Recalled(distance=1.0, workload=work, episode=episode)


def precedent_of(recalled: Sequence[Recalled]) -> Precedent | None:
    return Precedent.of(recalled, WORK)


def test_the_precedent_is_the_one_that_waited_least() -> None:
    other = BufferSettings(capacity_rows=900, lookahead_batches=16)
    found = precedent_of([came_to(other, wait_ms=3.0), came_to(), came_to(other, wait_ms=2.0)])
    assert found == Precedent(GOOD, rows_fetched=50.0, exposed_wait_ms=1.0)


def test_other_work_this_run_and_what_was_not_confirmed_are_no_precedents() -> None:
    elsewhere = EARLIER.model_copy(update={"num_halo": EARLIER.num_halo + 1})
    assert precedent_of([came_to(work=elsewhere)]) is None
    assert precedent_of([came_to(work=WORK)]) is None
    assert precedent_of([came_to(result="reverted")]) is None
