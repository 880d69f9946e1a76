"""Steers a simulated trainer from its first window to its last."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from rudder.agents.actuator import UnrecordedError
from rudder.agents.roles import Critic, Planner
from rudder.agents.steering import Steering
from rudder.agents.team import Team, make_team
from rudder.bench.simulated.trainer import SimulatedTrainer
from rudder.memory.journal import Journal
from rudder.memory.records import Episode
from rudder.training.control.messages import WINDOW_STEPS
from rudder.training.metrics import Window
from rudder.training.steering_options import SteeringOptions

Disturbance = Callable[[int, SimulatedTrainer], None]
"""Called before each usual window of 16 steps with its number; may change the trainer's costs."""


@dataclass(frozen=True)
class Run:
    """The windows of a simulated run, and its episodes in their last state."""

    windows: tuple[Window, ...]
    episodes: tuple[Episode, ...]

    @property
    def seconds(self) -> float:
        """Simulated time of all windows."""
        return seconds_of(self.windows)

    def seconds_between(self, first: int, last: int) -> float:
        """Simulated time of these windows of 16 steps; of longer ones, as much as is within."""
        begin, end = first * WINDOW_STEPS, last * WINDOW_STEPS
        found = 0.0
        for each in self.windows:
            steps = min(each.first_step + each.num_steps, end) - max(each.first_step, begin)
            found += max(steps, 0) / each.num_steps * (each.wall_seconds or 0.0)
        return found

    @property
    def applied(self) -> tuple[Episode, ...]:
        """Episodes whose change was applied."""
        return tuple(
            each for each in self.episodes if each.applied and each.applied.outcome == "applied"
        )


def seconds_of(windows: tuple[Window, ...]) -> float:
    """Simulated time of some windows."""
    return sum(window.wall_seconds or 0.0 for window in windows)


_DEFAULTS = SteeringOptions()


def _nothing(number: int, trainer: SimulatedTrainer) -> None:
    pass


async def simulate(
    trainer: SimulatedTrainer,
    *,
    windows: int,
    options: SteeringOptions = _DEFAULTS,
    planner: Planner | None = None,
    critic: Critic | None = None,
    team: Team | None = None,
    journal: Journal | None = None,
    disturbance: Disturbance = _nothing,
) -> Run:
    """Steer a trainer for so many windows of 16 steps.

    planner, critic: in place of those of `team`; team: default: the one that the options name.
    While a model is asked, time passes for it as it does for the trainer: simulated time under
    `run_simulated`, else real time. A change that cannot be recorded is not made, and a trial goes
    on, as with a live trainer.
    """
    team, journal = team or make_team(options, trainer.workload), journal or Journal()
    team = replace(team, planner=planner or team.planner, critic=critic or team.critic)
    journal.begin(trainer.workload)
    steering = Steering(
        trainer.workload, sender=trainer, journal=journal, options=options, team=team
    )
    seen: list[Window] = []
    found = [first] if (first := await steering.begin()) is not None else []
    while (left := windows * WINDOW_STEPS - sum(window.num_steps for window in seen)) > 0:
        await trainer.attend(steering.attention)
        window = trainer.window(lambda number: disturbance(number, trainer), most_steps=left)
        seen.append(window)
        if team.asker is not None and team.asker.background.is_pending:
            await asyncio.sleep(window.wall_seconds or 0.0)
        with contextlib.suppress(UnrecordedError):
            found += await steering.take(window)
    return Run(tuple(seen), tuple({each.episode_id: each for each in found}.values()))
