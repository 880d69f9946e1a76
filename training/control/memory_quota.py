"""What a trainer's buffer may take of its host's memory budget, where trainers share it.

All of a budget is divided into parts. Each rank begins with as many as the others, and only the
rank that has a part can give it away: it lowers its own limit first and then says, under its own
key, how many it has given to whom in all. Such totals only grow, so a word that comes late makes a
rank believe that it has less than it has, never more. Whatever the ranks hear, and in whatever
order, their limits never add up to more than the budget; nobody waits, and nobody is in charge.
The idea is that of bounded counters: Balegas et al., Extending Eventually Consistent Cloud
Databases for Enforcing Numeric Invariants, arXiv 1503.09052.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from rudder.training.metrics import Stake, StepTiming
from rudder.training.workload import Workload

PARTS_PER_TRAINER = 2**20
_MIN_PARTS = PARTS_PER_TRAINER // 8
"""What no rank gives away: room to begin with when things change."""
_CLAIM_AT_FULL = 0.875
"""Share of its limit that a rank must hold to want more."""
_STALLING_FRACTION = 0.05
"""Share of the step from which on a rank that waits is said to stall."""
_LEAD = 2.0
"""Times that a rank must wait longer than another to be given what that one has."""
_UNUSED_WINDOWS = 8
"""Windows for which room must be free before it is given away: a trial may want it back."""
_SQUEEZED_FRACTION = 0.125
"""Share of its rows that a rank without free room makes do without at once."""


class NoAllotment:
    """There is no budget to keep to."""

    limit_rows: int | None = None
    offered_rows: int | None = None

    def hold(self, rows: int) -> bool:
        """Any number of rows."""
        return True

    def hold_at_most(self, rows: int) -> int:
        """All of them."""
        return rows

    def look(self) -> None:
        """Do nothing."""

    def stake(self, pace: StepTiming) -> Stake | None:
        """There is nothing to say."""
        return None

    def hear(self, pace: StepTiming, peers: Sequence[StepTiming]) -> None:
        """Do nothing."""


NO_ALLOTMENT = NoAllotment()


class Allotment:
    """One rank's part; `hold` is for the thread that changes the buffer, `stake` and `hear` for
    the one that speaks with the other ranks.

    A buffer that is larger than its limit, as at the start or after a cut of the budget, may not
    grow, and none of its room is given away, until it has shrunk.
    """

    def __init__(
        self, workload: Workload, *, budget_bytes: int | None, budget_file: Path | None = None
    ) -> None:
        """workload: its defaults are in force now; budget_bytes: of all buffers of this host,
        None: no limit; budget_file: says otherwise while it exists."""
        self._rank, self._host = workload.rank, workload.part
        self._num_mates = max(workload.trainers_on_host, 1) - 1
        self._row_bytes = max(workload.row_bytes, 1)
        self._first_budget, self._budget_file = budget_bytes, budget_file
        self._budget = read_budget(budget_file, budget_bytes)
        self._given: dict[int, int] = {}
        self._received: dict[int, int] = {}
        self._squeezed_parts = 0
        self._held_rows = held = workload.defaults.capacity_rows
        self._recently_held: deque[int] = deque([held] * _UNUSED_WINDOWS, _UNUSED_WINDOWS)
        self._lock = threading.Lock()

    # -- for the thread that changes the buffer ------------------------------------------------

    @property
    def limit_rows(self) -> int | None:
        """The most rows that the buffer may have; None without a budget."""
        with self._lock:
            return self._rows(self._parts)

    @property
    def offered_rows(self) -> int | None:
        """The rows to make do with: less than the limit where a peer should have the rest."""
        with self._lock:
            return self._rows(self._parts - self._squeezed_parts)

    def hold(self, rows: int) -> bool:
        """Have the buffer take so many rows from now on; False: that is more than the limit, and
        nothing has changed. Fewer rows than now are always allowed."""
        with self._lock:
            limit = self._rows(self._parts)
            if limit is not None and rows > max(limit, 0) and rows > self._held_rows:
                return False
            self._held_rows = rows
            self._recently_held[-1] = max(self._recently_held[-1], rows)
            return True

    def hold_at_most(self, rows: int) -> int:
        """Have the buffer take so many rows, or as many as are allowed; returns how many."""
        limit = self.limit_rows
        while not self.hold(rows if limit is None else min(rows, limit)):
            limit = self.limit_rows
        return rows if limit is None else min(rows, limit)

    def look(self) -> None:
        """See whether the budget was changed."""
        budget = read_budget(self._budget_file, self._first_budget)
        with self._lock:
            self._budget = budget

    # -- for the thread that speaks with the other ranks ---------------------------------------

    def stake(self, pace: StepTiming) -> Stake | None:
        """What to tell the others with this pace; None without a budget or anybody to share it."""
        with self._lock:
            if self._budget is None or not self._num_mates:
                return None
            return Stake(
                host=self._host,
                held_bytes=self._held_rows * self._row_bytes,
                claimed_parts=self._parts if self._wants_more(pace) else 0,
                given_parts=dict(self._given),
            )

    def hear(self, pace: StepTiming, peers: Sequence[StepTiming]) -> None:
        """Take in what the others have given, and give to the one that needs it most.

        pace: this rank's own. To be called once a window.
        """
        with self._lock:
            mates = [each for each in peers if each.stake and each.stake.host == self._host]
            for mate in mates:
                self._receive(mate)
            self._recently_held.append(self._held_rows)
            needy = [mate for mate in mates if _needs_more_than(mate, pace)]
            if self._budget is None or not self._num_mates or not needy:
                self._squeezed_parts = 0
                return
            neediest = min(needy, key=lambda mate: (-mate.exposed_wait_seconds, mate.rank))
            self._give(neediest)

    # -- how -------------------------------------------------------------------------------------

    @property
    def _parts(self) -> int:
        """Those that this rank has."""
        got, gone = sum(self._received.values()), sum(self._given.values())
        return PARTS_PER_TRAINER + got - gone

    @property
    def _all_parts(self) -> int:
        return PARTS_PER_TRAINER * (self._num_mates + 1)

    def _rows(self, parts: int) -> int | None:
        if self._budget is None:
            return None
        return self._budget * parts // self._all_parts // self._row_bytes

    def _parts_of(self, rows: int) -> int:
        """The parts that so many rows need, rounded up."""
        assert self._budget is not None
        needed = rows * self._row_bytes * self._all_parts
        return -(-needed // self._budget) if self._budget else self._all_parts

    def _wants_more(self, pace: StepTiming) -> bool:
        limit = self._rows(self._parts)
        return limit is not None and _stalls(pace) and self._held_rows >= _CLAIM_AT_FULL * limit

    def _receive(self, mate: StepTiming) -> None:
        """Totals only grow: an older word changes nothing."""
        assert mate.stake is not None
        total = mate.stake.given_parts.get(self._rank, 0)
        self._received[mate.rank] = max(total, self._received.get(mate.rank, 0))

    def _give(self, mate: StepTiming) -> None:
        """Give what has long been free; without that, ask for a smaller buffer first."""
        assert mate.stake is not None
        needed = max(_MIN_PARTS, self._parts_of(max(*self._recently_held, self._held_rows)))
        free = self._parts - needed
        wanted = -(-mate.stake.claimed_parts // self._num_mates)
        if free > 0:
            self._given[mate.rank] = self._given.get(mate.rank, 0) + min(free, wanted)
            self._squeezed_parts = 0
        elif not self._squeezed_parts:
            least = min(needed, self._parts) - _MIN_PARTS
            squeezed = min(int(_SQUEEZED_FRACTION * self._parts), wanted, least)
            self._squeezed_parts = max(squeezed, 0)


def read_budget(file: Path | None, otherwise: int | None) -> int | None:
    """Bytes for all buffers of a host, as the file says; a file that says nothing counts not."""
    if file is None:
        return otherwise
    try:
        budget = int(file.read_text())
    except (OSError, ValueError):
        return otherwise
    return budget if budget >= 0 else otherwise


def _stalls(pace: StepTiming) -> bool:
    return pace.exposed_wait_seconds > _STALLING_FRACTION * pace.step_seconds


def _needs_more_than(mate: StepTiming, own: StepTiming) -> bool:
    """Whether a rank has claimed room, and waits so much longer that it should have it."""
    has_claimed = mate.stake is not None and mate.stake.claimed_parts > 0
    return has_claimed and mate.exposed_wait_seconds > _LEAD * own.exposed_wait_seconds
