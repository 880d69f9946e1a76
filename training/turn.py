"""Turns: how the ranks of a job agree on who changes settings when.

The newest turn of a run is one value in the job's key-value store. Whoever wants to decide writes
the next one in place of it, which works for one rank only, and says in it what came of it.
"""

from __future__ import annotations

from typing import Literal

from rudder.training.settings import BufferSettings, Change, Frozen

TurnState = Literal["deciding", "kept", "on_trial", "confirmed", "reverted", "abandoned"]
_OPEN: tuple[TurnState, ...] = ("deciding", "on_trial")


class RankTurn(Frozen):
    """One rank's decision, as all ranks are told of it.

    number: turns of a run are counted from 1; last_state: what came of the turn before; step: at
    which it was begun, or its change applied; until_step: from this step on nobody waits for the
    rank; is_joint: ranks in like circumstances make the change, too, and share its outcome;
    settings, max_capacity_rows, rows_fetched, exposed_wait_ms, headroom_wait_ms: the rank's
    circumstances before, as in an observation.
    """

    number: int
    rank: int
    state: TurnState
    last_state: TurnState | None = None
    step: int
    until_step: int
    settings: BufferSettings
    change: Change = Change()
    is_joint: bool = False
    max_capacity_rows: int | None = None
    rows_fetched: float = 0.0
    exposed_wait_ms: float = 0.0
    headroom_wait_ms: float | None = None

    def is_open(self, step: int) -> bool:
        """Whether the other ranks still wait for this one at a step."""
        return self.state in _OPEN and step < self.until_step
