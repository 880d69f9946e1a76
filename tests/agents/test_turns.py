"""Turns: one rank changes settings at a time, and ranks in like circumstances go along."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from rudder.agents.guard import Guard
from rudder.agents.trial import Trial
from rudder.agents.turns import (
    JoinedTrial,
    TurnTaking,
    goes_together,
    has_like_settings,
    own_change,
)
from rudder.bench.simulated.job import Board
from rudder.memory.records import Episode, Outcome
from rudder.tools.constants import SLOWEST_FIRST_WINDOWS, TURN_STEPS
from rudder.tools.limits import Limits
from rudder.training.metrics import StepTiming, Window
from rudder.training.settings import BufferSettings, Change, FetchTargets
from rudder.training.turn import RankTurn
from tests.agents.steered import (
    SETTINGS,
    applied_of,
    observation_of,
    trainer_of,
    window_of,
)

GROWTH = Change(capacity_rows=5000)
MOST = 6000
TURN = RankTurn(
    number=3, rank=1, state="on_trial", step=160, until_step=160 + TURN_STEPS, settings=SETTINGS,
    change=GROWTH, is_joint=True, max_capacity_rows=MOST, rows_fetched=200.0, exposed_wait_ms=5.0,
)  # fmt: skip
T = TypeVar("T")


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def turns_of(board: Board | None, *, rank: int = 0) -> TurnTaking:
    workload = trainer_of().workload.model_copy(update={"rank": rank, "world_size": 2})
    return TurnTaking(board, workload)


def seen(
    step: int = 160, *, turn: RankTurn | None = None, worst_ms: float = 5.0, **values: Any
) -> Window:
    """A window that ends at `step`, and in which another rank waits so long."""
    peer = StepTiming(rank=1, window=0, step_seconds=0.025, exposed_wait_seconds=worst_ms / 1000)
    window = window_of(step - 16, settings=SETTINGS, **values)
    return window.model_copy(update={"turn": turn, "peers": (peer,)})


def episode_of(change: Change, *, step: int = 160, outcome: Outcome | None = None) -> Episode:
    """A decision that has just been made."""
    observation = observation_of(step=step)
    plan = {"planner": "embedded", "change": change, "expected": None, "reason": ""}
    verdict = {"decision": "approve", "critic": "embedded", "change": change, "expected": None}
    return Episode.model_validate(
        {
            "episode_id": "e", "run_key": "5", "rank": 0, "number": 0, "observation": observation,
            "plan": plan, "verdict": {**verdict, "reason": ""}, "outcome": outcome,
            "applied": applied_of(change, step=step) if outcome is None else None,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "together"),
    [
        (GROWTH, True),
        (Change(capacity_rows=5000, lookahead_batches=48, eviction_threshold=0.5), True),
        (Change(lookahead_batches=48), True),
        (Change(capacity_rows=1000), False),
        (Change(capacity_rows=5000, lookahead_batches=8), False),
        (Change(eviction_threshold=0.5), False),
        (Change(capacity_rows=5000, replace_now=True), False),
        (Change(capacity_rows=5000, fetch_targets=FetchTargets(source="vip", row_budget=9)), False),
        (
            GROWTH.model_copy(
                update={"fetch_targets": FetchTargets(source="vip", row_budget=9, while_idle=True)}
            ),
            True,
        ),
    ],
)
def test_ranks_go_together_only_where_nothing_gets_smaller_and_nothing_is_fetched_at_once(
    change: Change, together: bool
) -> None:
    assert goes_together(change, SETTINGS) is together


@pytest.mark.parametrize(
    ("most_rows", "rows", "ahead", "joins", "keeps"),
    [
        (MOST, 200.0, 32, True, True),
        (6600, 200.0, 32, True, True),
        (2 * MOST, 200.0, 32, False, False),
        (MOST, 310.0, 32, True, True),
        (MOST, 330.0, 32, False, False),
        (MOST, 100.0, 32, False, True),
        (MOST, 200.0, 8, False, False),
    ],
)
def test_in_like_circumstances_are_ranks_with_like_settings_and_about_as_many_rows_fetched(
    most_rows: int, rows: float, ahead: int, joins: bool, keeps: bool
) -> None:
    settings = SETTINGS.model_copy(update={"lookahead_batches": ahead})
    for turn in (TURN, TURN.model_copy(update={"state": "kept"})):
        window = seen(turn=turn, rows=rows).model_copy(update={"settings": settings})
        turns = turns_of(Board())
        turns.note(window)
        found = (
            turns.to_join(window, most_rows=most_rows),
            turns.kept(window, most_rows=most_rows),
        )
        assert (
            found == ((turn if joins else None), None)
            if turn is TURN
            else (
                None,
                turn if keeps else None,
            )
        )


@pytest.mark.parametrize(
    ("rows", "most_rows", "is_like"), [(109, 31617, True), (3000, 31617, False)]
)
def test_small_buffers_need_not_be_the_same_share_of_what_is_possible(
    rows: int, most_rows: int, is_like: bool
) -> None:
    """Those of two partitions of debian, a hundredth of the halo each: 0.28 % and 0.34 %."""
    settings = SETTINGS.model_copy(update={"capacity_rows": 89})
    turn = TURN.model_copy(update={"settings": settings, "max_capacity_rows": 32049})
    own = settings.model_copy(update={"capacity_rows": rows})
    window = seen(turn=turn).model_copy(update={"settings": own})
    assert has_like_settings(window, turn, most_rows=31617) == is_like


def test_a_change_is_scaled_to_what_a_rank_may_have() -> None:
    def own(turn: RankTurn, most_rows: int, most_at_once: int = MOST) -> Change:
        return own_change(turn, SETTINGS, most_rows=most_rows, most_at_once=most_at_once)

    assert own(TURN, MOST) == GROWTH
    assert own(TURN, 4800).capacity_rows == 4000
    assert own(TURN, MOST, most_at_once=4500).capacity_rows == 4500
    whole = TURN.model_copy(update={"change": Change(capacity_rows=MOST)})
    assert own(whole, 5555).capacity_rows == 5555
    assert own(whole, 2400).is_empty


def test_one_rank_has_the_turn_until_it_has_decided() -> None:
    board = Board()
    one, other = turns_of(board), turns_of(board, rank=1)
    assert wait_for(one.take(seen()))
    assert not wait_for(other.take(seen()))
    for state, episode in (
        ("kept", episode_of(Change(), outcome=Outcome(result="kept"))),
        ("abandoned", episode_of(GROWTH, outcome=Outcome(result="refused"))),
    ):
        wait_for(one.decided(episode, is_on_trial=False, most_rows=MOST))
        assert board.turn is not None
        assert board.turn.state == state
        other.note(seen(turn=board.turn))
        assert wait_for(other.take(seen()))
        wait_for(other.decided(None, is_on_trial=False, most_rows=MOST))
        one.note(seen(turn=board.turn))
        assert wait_for(one.take(seen()))
    assert board.turn is not None
    assert board.turn.number == 5
    assert board.turn.last_state == "abandoned"


def test_during_a_doubtful_change_others_do_nothing_and_a_joint_one_they_make_too() -> None:
    for change, is_joint in ((GROWTH, True), (Change(capacity_rows=1000), False)):
        board = Board()
        one, other = turns_of(board), turns_of(board, rank=1)
        assert wait_for(one.take(seen()))
        wait_for(one.decided(episode_of(change), is_on_trial=True, most_rows=MOST))
        window = seen(176, turn=board.turn)
        other.note(window)
        assert (other.to_join(window, most_rows=MOST) == board.turn) is is_joint
        assert other.to_join(window, most_rows=MOST) is None  # it is told once
        assert wait_for(other.take(window)) is is_joint  # by its own plan, if that is joint
        wait_for(one.close("reverted"))
        other.note(seen(176, turn=board.turn))
        assert wait_for(other.take(window))
        assert board.turn is not None
        assert (board.turn.rank, board.turn.last_state) == (1, "reverted")


def test_the_rank_that_waits_longest_is_left_the_first_turn_but_not_for_long() -> None:
    board = Board()
    turns = turns_of(board)
    asked = [wait_for(turns.take(seen(worst_ms=6.0))) for _ in range(SLOWEST_FIRST_WINDOWS + 1)]
    assert asked == [False] * SLOWEST_FIRST_WINDOWS + [True]
    assert wait_for(turns_of(Board()).take(seen(worst_ms=5.1)))


def test_a_lost_rank_holds_nobody_up_for_longer_than_its_turn() -> None:
    board = Board()
    assert wait_for(turns_of(board, rank=1).take(seen()))
    turns = turns_of(board)
    for step, may_decide in ((160 + TURN_STEPS - 16, False), (160 + TURN_STEPS, True)):
        window = seen(step, turn=board.turn)
        turns.note(window)
        assert wait_for(turns.take(window)) is may_decide


def test_a_turn_that_another_rank_has_taken_over_is_not_closed_by_the_first() -> None:
    board = Board()
    lost, other = turns_of(board), turns_of(board, rank=1)
    assert wait_for(lost.take(seen()))
    late = seen(160 + TURN_STEPS, turn=board.turn)
    other.note(late)
    assert wait_for(other.take(late))
    wait_for(lost.decided(episode_of(GROWTH), is_on_trial=True, most_rows=MOST))
    assert board.turn is not None
    assert (board.turn.rank, board.turn.state) == (1, "deciding")


class Silent(Board):
    """A store that is gone."""

    async def write_turn(self, turn: RankTurn, *, instead_of: RankTurn | None) -> RankTurn | None:
        return None


def test_without_a_store_a_rank_decides_on_its_own() -> None:
    for board in (None, Silent()):
        turns = turns_of(board)
        assert wait_for(turns.take(seen(worst_ms=5.0)))
        wait_for(turns.decided(episode_of(GROWTH), is_on_trial=True, most_rows=MOST))
        wait_for(turns.close("confirmed"))
        assert wait_for(turns.take(seen(worst_ms=9.0)))
        assert not turns.are_agreed


def test_what_another_rank_kept_is_kept_in_like_circumstances_without_asking() -> None:
    kept = TURN.model_copy(update={"state": "kept", "headroom_wait_ms": 0.0})
    for window, most_rows, is_same in (
        (seen(turn=kept), MOST, True),
        (seen(turn=kept), 2 * MOST, False),
        (seen(turn=kept, wait_ms=6.0), MOST, False),
        (seen(turn=kept, wait_ms=3.0), MOST, True),
        (seen(208, turn=kept), MOST, False),
    ):
        turns = turns_of(Board())
        turns.note(window)
        assert (turns.kept(window, most_rows=most_rows) is not None) is is_same


def test_the_guard_refuses_a_change_in_another_ranks_turn_unless_both_go_together() -> None:
    bounds = Limits.of(trainer_of().workload, memory_budget_bytes=None)
    shrink = Change(capacity_rows=2000)
    single = TURN.model_copy(update={"is_joint": False})
    own = TURN.model_copy(update={"rank": 0})
    for turn, change, rule in (
        (TURN, GROWTH, None),
        (TURN, shrink, "turn"),
        (single, GROWTH, "turn"),
        (own, shrink, None),
        (TURN.model_copy(update={"state": "confirmed"}), shrink, None),
        (TURN.model_copy(update={"until_step": 160}), shrink, None),
    ):
        ruling = Guard().review(
            change,
            observation=observation_of(),
            bounds=bounds,
            now_step=160,
            latest=seen(turn=turn),
        )
        assert ruling.rule == rule


def joined() -> JoinedTrial:
    applied, before = applied_of(GROWTH, step=176), observation_of(step=176)
    return JoinedTrial(Trial(GROWTH, applied=applied, before=before, expected=None), TURN)


def later(step: int, turn: RankTurn | None, *, rows: float = 150.0) -> Window:
    window = window_of(step, settings=GROWTH.over(SETTINGS), rows=rows)
    return window.model_copy(update={"turn": turn})


@pytest.mark.parametrize("state", ["confirmed", "reverted"])
def test_a_joined_change_has_the_outcome_that_it_has_for_the_rank_whose_turn_it_is(
    state: str,
) -> None:
    closed = TURN.model_copy(update={"state": state})
    following = TURN.model_copy(update={"number": 4, "state": "deciding", "last_state": state})
    for turn in (closed, following):
        trial = joined()
        assert trial.feed(later(192, TURN)) is None
        outcome = trial.feed(later(208, turn))
        assert outcome is not None
        assert outcome.result == state
        assert "rank 1" in outcome.reason
        assert outcome.rows_after == pytest.approx(150.0)
        assert trial.undo == Change(capacity_rows=SETTINGS.capacity_rows)


def test_a_joined_change_is_judged_by_its_own_rank_if_the_other_is_not_heard_again() -> None:
    trial = joined()
    steps = range(192, 192 + 2 * TURN_STEPS, 16)
    outcomes = {step: trial.feed(later(step, TURN, rows=220.0)) for step in steps}
    first = next(step for step, outcome in outcomes.items() if outcome is not None)
    assert first == TURN.until_step
    outcome = outcomes[first]
    assert outcome is not None
    assert (outcome.result, "rank 1" in outcome.reason) == ("reverted", False)


def test_settings_that_a_user_has_changed_end_a_joined_trial() -> None:
    outcome = joined().feed(window_of(192, settings=BufferSettings(capacity_rows=77)))
    assert outcome is not None
    assert outcome.result == "abandoned"
