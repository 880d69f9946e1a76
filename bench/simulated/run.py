"""Steers a simulated trainer from its first window to its last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rudder.agents.actuator import JournaledActuator
from rudder.agents.critic import EmbeddedCritic
from rudder.agents.graph import build_graph
from rudder.agents.guard import Guard
from rudder.agents.objective import DEFAULT_PREFERENCE, Preference
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.recall import EpisodeRecall
from rudder.agents.recording import DecisionRecorder
from rudder.agents.roles import Critic, Observer, Planner
from rudder.agents.steering import Steering
from rudder.agents.trial import TrialCriteria
from rudder.bench.simulated.trainer import SimulatedTrainer
from rudder.memory.journal import Journal
from rudder.memory.records import Episode
from rudder.tools.estimate.history import History
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
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


def _nothing(number: int, trainer: SimulatedTrainer) -> None:
    pass


async def simulate(
    trainer: SimulatedTrainer,
    *,
    planner: Planner,
    windows: int,
    second: Planner | None = None,
    observer: Observer | None = None,
    critic: Critic | None = None,
    guard: Guard | None = None,
    journal: Journal | None = None,
    preference: Preference = DEFAULT_PREFERENCE,
    memory_budget_bytes: int | None = None,
    seed: int = 0,
    disturbance: Disturbance = _nothing,
) -> Run:
    """Run a trainer for so many windows under a planner, with the embedded roles unless given.

    second: as in `build_graph`; seed: of a planner that draws, for the record.
    """
    objective, tolerance = preference.objective, preference.tolerance
    guard, journal = guard or Guard(), journal or Journal()
    journal.begin(trainer.workload)
    history = History(trainer.workload)
    limits = Limits.of(trainer.workload, memory_budget_bytes=memory_budget_bytes)
    episode_recall = EpisodeRecall(journal, workload=trainer.workload)
    actuator = JournaledActuator(trainer, journal=journal)
    options = SteeringOptions(objective=objective, tolerance=tolerance, seed=seed)
    steering = Steering(
        graph=build_graph(
            observer=observer or EmbeddedObserver(),
            planner=planner,
            second=second,
            critic=critic or EmbeddedCritic(preference=preference),
            guard=guard,
            act=actuator,
            recall=episode_recall.recall,
            recorder=DecisionRecorder(journal, guard=guard, options=options),
        ),
        toolbox=Toolbox(history, limits, WhatIf(history), episode_recall.last),
        guard=guard,
        actuator=actuator,
        journal=journal,
        episode_recall=episode_recall,
        criteria=TrialCriteria(objective=objective, tolerance=tolerance),
    )
    seen: list[Window] = []
    episodes: dict[str, Episode] = {}
    if (first := await steering.begin()) is not None:
        episodes[first.episode_id] = first
    for number in range(windows):
        disturbance(number, trainer)
        seen.append(trainer.window())
        for episode in await steering.take(seen[-1]):
            episodes[episode.episode_id] = episode
    return Run(tuple(seen), tuple(episodes.values()))
