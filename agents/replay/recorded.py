"""Recorded replay: the same windows, episodes, answers and graph must come to the same decision."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Literal

from rudder.agents.actuator import NoActuator
from rudder.agents.graph import build_graph, decide
from rudder.agents.guard import LIMITS, limit_plan
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.replay.cast import paced, recorded_team, why_not_recorded
from rudder.agents.replay.compare import Decision, Difference, differences
from rudder.agents.replay.offline import no_sockets
from rudder.agents.replay.recorded_run import NotReplayable, RecordedRun, Scene
from rudder.agents.team import Team
from rudder.memory.records import Episode
from rudder.memory.run.run_reader import RunReader


async def decide_again(scene: Scene, team: Team) -> Decision | None:
    """What the team decides; None where it sees nothing to decide on."""
    roles = paced(team, scene)
    graph = build_graph(
        observer=roles.observer,
        planner=roles.planner,
        second=roles.second,
        critic=roles.critic,
        guard=scene.guard,
        act=NoActuator(),
        recall=scene.recall,
    )
    state = await decide(graph, toolbox=scene.toolbox, episode_id=scene.episode.episode_id)
    return Decision.of_state(state) if "proposal" in state else None


async def keep_to_limits_again(scene: Scene) -> Decision | None:
    """What the limits in force then make of the settings; None where these are within them."""
    plan = limit_plan(scene.toolbox)
    if plan is None:
        return None
    observation = await EmbeddedObserver().observe(scene.toolbox)
    return Decision(observation, recalled=(), plan=plan, verdict=None, guard=None)


Result = Literal["equal", "different", "not replayable"]
_NOTHING_DECIDED = Difference("plan", "a plan", "nothing to decide on")


@dataclass(frozen=True)
class Replayed:
    """One decision; reason: why it cannot be replayed, None where it could."""

    episode: Episode
    differences: tuple[Difference, ...] = ()
    reason: str | None = None

    @property
    def result(self) -> Result:
        """What came of it."""
        if self.reason is not None:
            return "not replayable"
        return "different" if self.differences else "equal"


async def replay(
    reader: RunReader, *, names: Collection[str] | None = None
) -> AsyncIterator[Replayed]:
    """Make the decisions of a rank's file again; names: ids of those wanted, None: all.

    Raises SocketOpenedError if any of it wanted to speak to somebody.
    """
    for scene in RecordedRun(reader).decisions(names):
        if isinstance(scene, NotReplayable):
            yield Replayed(scene.episode, reason=scene.reason)
        else:
            yield await _replayed(scene)


async def _replayed(scene: Scene) -> Replayed:
    if scene.episode.plan.planner == LIMITS:
        return _compared(scene, await keep_to_limits_again(scene))
    reason = why_not_recorded(scene)
    if reason is not None:
        return Replayed(scene.episode, reason=reason)
    with no_sockets():
        decision = await decide_again(scene, recorded_team(scene))
    return _compared(scene, decision)


def _compared(scene: Scene, decision: Decision | None) -> Replayed:
    if decision is None:
        return Replayed(scene.episode, (_NOTHING_DECIDED,))
    found = differences(Decision.of_episode(scene.episode), decision)
    return Replayed(scene.episode, tuple(found))
