"""Turns: which rank may change settings now, and who goes along.

Ranks train in step, so that a change of one shows in the waits of all. Each decision is therefore a
turn, which one rank has at a time, the one that waits longest first. A change by which nothing gets
smaller is made by all ranks in like circumstances at once, without asking their agents, and is
judged by the step time of the job; during any other change the other ranks leave their settings as
they are. A rank that is lost holds nobody up: its turn ends after a stated number of steps.
"""

from __future__ import annotations

from typing import Protocol

from rudder.agents.trial import Trial
from rudder.memory.records import Episode, Outcome
from rudder.tools.constants import (
    CHANGED_ROWS_SHARE,
    HIDDEN_SHARE,
    LIKE_ROWS_FACTOR,
    SAME_CAPACITY_FACTOR,
    SLOWEST_FIRST_WINDOWS,
    TURN_STEPS,
)
from rudder.training.metrics import Window
from rudder.training.settings import BufferSettings, Change
from rudder.training.turn import RankTurn, TurnState
from rudder.training.workload import Workload

TEAM = "team"
"""Stands for planner and critic in the episodes of ranks that go along with another."""
_JUDGED: tuple[TurnState, ...] = ("confirmed", "reverted")


class TurnStore(Protocol):
    """What the ranks agree over."""

    async def write_turn(self, turn: RankTurn, *, instead_of: RankTurn | None) -> RankTurn | None:
        """Put a turn in place of the newest, if that is `instead_of`; the newest then. None: the
        ranks cannot agree."""


class TurnTaking:
    """One rank's part in the turns of its job. Without others, or without a store that answers,
    this rank decides whenever it wants to."""

    def __init__(self, store: TurnStore | None, workload: Workload) -> None:
        self._store = store if workload.world_size > 1 else None
        self._rank = workload.rank
        self._newest: RankTurn | None = None
        self._own: RankTurn | None = None
        self._wanted_windows = self._joined = 0
        self._end: TurnState | None = None

    @property
    def are_agreed(self) -> bool:
        """Whether the ranks can agree on who changes settings."""
        return self._store is not None

    def note(self, window: Window) -> None:
        """Hear of the job's newest turn."""
        told, newest = window.turn, self._newest
        if told is None or (newest is not None and told.number < newest.number):
            return
        if newest is None or told.number > newest.number or told.rank != self._rank:
            self._newest = told

    def number_at(self, step: int) -> int | None:
        """Of the turn in which this rank decides at a step: its own, or one that it goes along
        with."""
        turn = self._own or self.of_another(step)
        return None if turn is None else turn.number

    def of_another(self, step: int) -> RankTurn | None:
        """The turn that another rank has at a step."""
        newest = self._newest
        has_it = newest is not None and newest.rank != self._rank and newest.is_open(step)
        return newest if has_it else None

    def to_join(self, window: Window, *, most_rows: int) -> RankTurn | None:
        """The turn of another rank whose change this one is to make, too; told once."""
        turn = self.of_another(window.first_step + window.num_steps)
        if turn is None or not turn.is_joint or turn.state != "on_trial":
            return None
        is_like = has_like_settings(window, turn, most_rows=most_rows) and (
            turn.rows_fetched <= _as_many_as(_rows(window), window)
            and _rows(window) <= _as_many_as(turn.rows_fetched, window)
        )
        if turn.number == self._joined or not is_like:
            return None
        self._joined, self._wanted_windows = turn.number, 0
        return turn

    def kept(self, window: Window, *, most_rows: int) -> RankTurn | None:
        """The turn in which another rank, in like circumstances, has just come to keep things."""
        turn = self._newest
        if turn is None or turn.state != "kept" or turn.rank == self._rank:
            return None
        is_fresh = turn.step >= window.first_step - window.num_steps
        waits_more = _wait_ms(window) - turn.exposed_wait_ms > HIDDEN_SHARE * _step_ms(window)
        fetches_more = _rows(window) > _as_many_as(turn.rows_fetched, window)
        if not is_fresh or waits_more or fetches_more:
            return None
        if not has_like_settings(window, turn, most_rows=most_rows):
            return None
        self._wanted_windows = 0
        return turn

    async def take(self, window: Window) -> bool:
        """Whether this rank may decide now; asked in each window in which it wants to.

        While a joint change is on trial it may, without a turn of its own: the guard lets it make
        nothing but another joint change.
        """
        self._wanted_windows += 1
        step = window.first_step + window.num_steps
        if self._store is None:
            return True
        if (other := self.of_another(step)) is not None:
            return other.is_joint and other.state == "on_trial"
        if _others_wait_longer(window) and self._wanted_windows <= SLOWEST_FIRST_WINDOWS:
            return False
        newest = self._newest
        turn = RankTurn(
            number=1 if newest is None else newest.number + 1,
            rank=self._rank,
            state="deciding",
            last_state=None if newest is None or newest.is_open(step) else newest.state,
            step=step,
            until_step=step + TURN_STEPS,
            settings=window.settings,
        )
        return await self._write(turn)

    async def decided(self, episode: Episode | None, *, is_on_trial: bool, most_rows: int) -> None:
        """Tell what came of the decision."""
        self._wanted_windows = 0
        if self._own is None:
            return
        if episode is None:
            await self.close("abandoned")
            return
        seen, result = episode.observation, episode.outcome
        own = self._own.model_copy(
            update={
                "settings": seen.settings,
                "max_capacity_rows": most_rows,
                "rows_fetched": seen.rows_fetched,
                "exposed_wait_ms": seen.exposed_wait_ms,
                "headroom_wait_ms": seen.headroom_wait_ms,
            }
        )
        if is_on_trial and episode.applied is not None and episode.verdict is not None:
            change, step = episode.verdict.change, episode.applied.step
            trial = {"state": "on_trial", "step": step, "until_step": step + TURN_STEPS}
            joint = {"change": change, "is_joint": goes_together(change, seen.settings)}
            own = own.model_copy(update=trial | joint)
        else:
            is_kept = result is not None and result.result == "kept"
            own = own.model_copy(update={"state": "kept" if is_kept else "abandoned"})
        await self._write(own)

    async def close(self, state: TurnState) -> None:
        """Tell what came of the change; nothing if this rank has no turn."""
        if self._own is not None:
            await self._write(self._own.model_copy(update={"state": state}))

    def give_up(self) -> None:
        """Have the turn closed as abandoned by the next `settle`."""
        self._end = "abandoned"

    async def settle(self) -> None:
        """Tell of a turn that was given up."""
        end, self._end = self._end, None
        if end is not None:
            await self.close(end)

    async def _write(self, turn: RankTurn) -> bool:
        """Whether the turn is now the job's newest; without a store that answers, too."""
        if self._store is None:
            return True
        found = await self._store.write_turn(turn, instead_of=self._newest)
        if found is None:
            self._store = self._own = None
            return True
        self._newest = found
        self._own = turn if found == turn and turn.is_open(turn.step) else None
        return found == turn


def goes_together(change: Change, settings: BufferSettings) -> bool:
    """Whether all ranks may make a change at once: one by which nothing gets smaller, so that it
    takes rows off the link, and that fetches nothing but what an idle link has room for. Memory is
    each rank's own share."""
    after, targets = change.over(settings), change.fetch_targets
    if change.replace_now or (targets is not None and not targets.while_idle):
        return False
    more_rows = after.capacity_rows - settings.capacity_rows
    more_batches = after.lookahead_batches - settings.lookahead_batches
    return min(more_rows, more_batches) >= 0 and max(more_rows, more_batches) > 0


def has_like_settings(window: Window, turn: RankTurn, *, most_rows: int) -> bool:
    """Whether a rank has the settings that the turn's rank had, of capacities about the same share
    of what is possible: a hundredth of the halo is not the same one everywhere."""
    own, other = window.settings, turn.settings
    if own.model_copy(update={"capacity_rows": other.capacity_rows}) != other:
        return False
    share = own.capacity_rows / max(most_rows, 1)
    its_share = other.capacity_rows / max(turn.max_capacity_rows or 0, 1)
    low, high = sorted((share, its_share))
    return high <= max(SAME_CAPACITY_FACTOR * low, low + CHANGED_ROWS_SHARE)


def own_change(
    turn: RankTurn, settings: BufferSettings, *, most_rows: int, most_at_once: int
) -> Change:
    """The turn's change for a rank with these settings, with the same share of what is possible, as
    far as one change may go."""
    change = turn.change
    rows, targets = change.capacity_rows, change.fetch_targets
    if rows is not None:
        rows = round(rows / max(turn.max_capacity_rows or rows, 1) * most_rows)
        rows = max(min(rows, most_rows, most_at_once), settings.capacity_rows)
    if targets is not None:
        most = settings.capacity_rows if rows is None else rows
        targets = targets.model_copy(update={"row_budget": min(targets.row_budget, most)})
    wanted = change.model_copy(update={"capacity_rows": rows})
    differing = Change.between(settings, wanted.over(settings))
    return differing.model_copy(update={"fetch_targets": targets})


def _others_wait_longer(window: Window) -> bool:
    worst_s = max((peer.exposed_wait_seconds for peer in window.peers), default=0.0)
    return 1e3 * worst_s - _wait_ms(window) > HIDDEN_SHARE * _step_ms(window)


def _rows(window: Window) -> float:
    return window.rows.rows_fetched.of_batches / max(window.num_steps, 1)


def _as_many_as(rows: float, window: Window) -> float:
    """The most rows a step that are about as many."""
    remote = window.rows.remote_rows / max(window.num_steps, 1)
    return LIKE_ROWS_FACTOR * rows + CHANGED_ROWS_SHARE * remote


def _wait_ms(window: Window) -> float:
    return 1e3 * window.stalled_seconds / max(window.num_steps, 1)


def _step_ms(window: Window) -> float:
    return 1e3 * window.trained_seconds / max(window.num_steps, 1)


class JoinedTrial:
    """The trial of a change that another rank has made, too: its outcome is that rank's, or the
    own one if the other rank is not heard until its turn ends."""

    def __init__(self, own: Trial, turn: RankTurn) -> None:
        self._own, self._turn = own, turn
        self._outcome: Outcome | None = None

    @property
    def undo(self) -> Change:
        """What puts the settings back that were in force before."""
        return self._own.undo

    def feed(self, window: Window) -> Outcome | None:
        """Take in the next window; the outcome once it is known."""
        if self._outcome is None:
            self._outcome = self._own.feed(window)
        own = self._outcome
        if own is not None and own.result == "abandoned":
            return own
        state = self._state(window)
        if state in _JUDGED:
            reason = f"{state} by rank {self._turn.rank}, for all ranks that made the change"
            found = own or self._own.measured(window)
            return found.model_copy(update={"result": state, "reason": reason})
        is_lost = state == "abandoned" or window.first_step >= self._turn.until_step
        return own if is_lost else None

    def _state(self, window: Window) -> TurnState | None:
        """What has come of the turn, as far as a window tells; `abandoned` where it is too late to
        know."""
        turn, own = window.turn, self._turn.number
        if turn is None or turn.number < own:
            return None
        if turn.number == own:
            return turn.state
        return (turn.last_state if turn.number == own + 1 else None) or "abandoned"
