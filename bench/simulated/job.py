"""A simulated job: ranks that train in step, share a link, and agree over a store in memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rudder.agents.steering import Steering
from rudder.bench.simulated.trainer import SimulatedTrainer
from rudder.memory.journal import Journal
from rudder.memory.records import Episode
from rudder.training.control.messages import WINDOW_STEPS
from rudder.training.metrics import StepTiming, Window
from rudder.training.steering_options import SteeringOptions
from rudder.training.turn import RankTurn

SHARED_PART = 0.5
"""Of what a row costs: depends on the rows of all ranks, as on a switch that they share."""


class Board:
    """The newest turn of a job, as the store of its ranks keeps it."""

    def __init__(self) -> None:
        self.turn: RankTurn | None = None

    async def write_turn(self, turn: RankTurn, *, instead_of: RankTurn | None) -> RankTurn | None:
        """Write where the newest is `instead_of`; the newest then."""
        if self.turn == instead_of:
            self.turn = turn
        return self.turn


@dataclass(frozen=True)
class JobRun:
    """seconds: simulated time of each 16 steps of the job; episodes: of all ranks, in their last
    state; ended: the step at which each episode with an outcome had it, by id."""

    seconds: tuple[float, ...]
    episodes: tuple[Episode, ...]
    ended: dict[str, int]

    @property
    def decisions(self) -> tuple[Episode, ...]:
        """Those for which a rank's agents were asked."""
        return tuple(each for each in self.episodes if each.plan.turn is None)

    @property
    def disturbed_reverts(self) -> int:
        """Reverted changes during whose trial another rank changed settings in another turn, or in
        none."""
        changed = [each for each in self.episodes if each.applied is not None]
        return sum(
            any(self._disturbs(other, each) for other in changed)
            for each in changed
            if each.outcome is not None and each.outcome.result == "reverted"
        )

    def _disturbs(self, other: Episode, reverted: Episode) -> bool:
        if other.applied is None or reverted.applied is None or other.rank == reverted.rank:
            return False
        is_same_turn = reverted.turn is not None and other.turn == reverted.turn
        during = range(reverted.applied.step, self.ended[reverted.episode_id])
        return not is_same_turn and other.applied.step in during


class SimulatedJob:
    """Trainers that end each step together.

    Between two steps a rank's row gets dearer with the rows that the others fetch.
    """

    def __init__(self, trainers: Sequence[SimulatedTrainer]) -> None:
        self.trainers = tuple(trainers)
        self._costs = [trainer.costs for trainer in trainers]
        self._usual_rows: float | None = None
        self._timings: dict[int, StepTiming] = {}
        self.board = Board()

    def step(self) -> list[tuple[SimulatedTrainer, Window]]:
        """Train for a step; the windows that it ends."""
        done_ms = max([trainer.step() for trainer in self.trainers])
        for trainer in self.trainers:
            trainer.wait_until(done_ms)
        ended = [(each, each.end_window()) for each in self.trainers if each.has_window]
        for _, window in ended:
            if (timing := window.timing) is not None:
                self._timings[window.rank] = timing
        if ended:
            self._share_link([window for _, window in ended])
        return [(each, self._told(window)) for each, window in ended]

    def _told(self, window: Window) -> Window:
        peers = tuple(each for rank, each in self._timings.items() if rank != window.rank)
        return window.model_copy(update={"peers": peers, "turn": self.board.turn})

    def _share_link(self, windows: Sequence[Window]) -> None:
        rows = statistics.fmean(
            each.rows.rows_fetched.total / max(each.num_steps, 1) for each in windows
        )
        self._usual_rows = self._usual_rows or max(rows, 1.0)
        load = 1 - SHARED_PART + SHARED_PART * rows / self._usual_rows
        for trainer, costs in zip(self.trainers, self._costs, strict=True):
            trainer.costs = replace(costs, row_ms=costs.row_ms * load)


async def simulate_job(
    job: SimulatedJob,
    *,
    windows: int,
    options: SteeringOptions | None = None,
    are_agreed: bool = True,
    journal_of: Callable[[SimulatedTrainer], Journal] = lambda trainer: Journal(),
) -> JobRun:
    """Steer all ranks for so many windows of 16 steps.

    options: None: nobody steers; are_agreed: whether the ranks take turns, else each decides on its
    own; journal_of: keeps what a rank records.
    """
    steerings = {
        id(trainer): Steering(
            trainer.workload,
            sender=trainer,
            journal=journal_of(trainer),
            options=options,
            turns=job.board if are_agreed else None,
        )
        for trainer in job.trainers
        if options is not None
    }
    found: dict[str, Episode] = {}
    ended: dict[str, int] = {}
    seconds, before = [], 0.0
    for number in range(windows * WINDOW_STEPS):
        for trainer, window in job.step():
            if (steering := steerings.get(id(trainer))) is None:
                continue
            for episode in await steering.take(window):
                found[episode.episode_id] = episode
                if episode.outcome is not None:
                    ended[episode.episode_id] = number
            await trainer.attend(steering.attention)
        if number % WINDOW_STEPS == WINDOW_STEPS - 1:
            now = job.trainers[0].seconds
            seconds.append(now - before)
            before = now
    return JobRun(tuple(seconds), tuple(found.values()), ended)
