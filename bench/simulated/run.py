"""Steers a simulated trainer from its first window to its last."""

from __future__ import annotations

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
from rudder.training.metrics import Window
from rudder.training.steering_options import SteeringOptions

Disturbance = Callable[[int, SimulatedTrainer], None]
"""Called before each window with its number; may change the trainer's costs."""


@dataclass(frozen=True)
class Run:
    """The windows of a simulated run, and its episodes in their last state."""

    windows: tuple[Window, ...]
    episodes: tuple[Episode, ...]

    @property
    def seconds(self) -> float:
        """Simulated time of all windows."""
        return seconds_of(self.windows)

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
    """Steer a trainer for so many windows.

    planner, critic: in place of those of `team`; team: default: the one that the options name.
    A change that cannot be recorded is not made, and a trial goes on, as with a live trainer.
    """
    team, journal = team or make_team(options, trainer.workload), journal or Journal()
    team = replace(team, planner=planner or team.planner, critic=critic or team.critic)
    journal.begin(trainer.workload)
    steering = Steering(
        trainer.workload, sender=trainer, journal=journal, options=options, team=team
    )
    seen: list[Window] = []
    found = [first] if (first := await steering.begin()) is not None else []
    for number in range(windows):
        disturbance(number, trainer)
        seen.append(trainer.window())
        with contextlib.suppress(UnrecordedError):
            found += await steering.take(seen[-1])
    return Run(tuple(seen), tuple({each.episode_id: each for each in found}.values()))
