"""Recorded replay: the same windows, episodes, answers and graph must lead to the same decision."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from rudder.agents.graph import build_graph, decide
from rudder.agents.guard import LIMITS, limit_plan
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.recording import Recorder
from rudder.agents.replay.cast import recorded_team, why_not_recorded
from rudder.agents.replay.compare import Decision, Difference, differences
from rudder.agents.replay.recorded_run import NotReplayable, RecordedRun, Scene
from rudder.agents.team import Team
from rudder.memory.journal import Node
from rudder.memory.records import Episode
from rudder.memory.run.run_reader import RunReader
from rudder.tools.offline import no_sockets
from rudder.tools.toolbox import Toolbox
from rudder.training.versions import own_version


class _WindowFeed(Recorder):
    """Lets windows come between the nodes of the graph as they came then."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def passing(self, node: Node, toolbox: Toolbox) -> AbstractContextManager[None]:
        """Windows that came before a node began are known to it."""
        self._scene.begin(node)
        return contextlib.nullcontext()


async def decide_again(scene: Scene, team: Team) -> Decision | None:
    """What the team decides; None where it sees nothing to decide on.

    A second planner is asked only where one was: a run of an earlier version never did.
    """
    was_reconsidered = scene.inputs.begin("reconsider") is not None
    graph = build_graph(
        observer=team.observer,
        planner=team.planner,
        second=team.second if was_reconsidered else None,
        critic=team.critic,
        guard=scene.guard,
        recall=scene.recall,
        recorder=_WindowFeed(scene),
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


ReplayResult = Literal["equal", "different", "not replayable"]
_NOTHING_DECIDED = Difference("plan", "a plan", "nothing to decide on")


@dataclass(frozen=True)
class Replayed:
    """One decision; version: of the Rudder that made it; reason: why it cannot be replayed, None
    where it could."""

    episode: Episode
    version: str | None = None
    differences: tuple[Difference, ...] = ()
    reason: str | None = None

    @property
    def result(self) -> ReplayResult:
        """What came of it."""
        if self.reason is not None:
            return "not replayable"
        return "different" if self.differences else "equal"

    @property
    def is_wrong(self) -> bool:
        """Whether it came out different, and this version made it: others decide by other rules."""
        return self.result == "different" and self.version == own_version()


async def replay(
    reader: RunReader, *, names: Collection[str] | None = None
) -> AsyncIterator[Replayed]:
    """Make the decisions of a rank's file again; names: ids of those wanted, None: all.

    Raises SocketOpenedError if any of it tried to use a socket.
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
        return Replayed(scene.episode, scene.version, reason=reason)
    with no_sockets():
        decision = await decide_again(scene, recorded_team(scene))
    return _compared(scene, decision)


def _compared(scene: Scene, decision: Decision | None) -> Replayed:
    if decision is None:
        return Replayed(scene.episode, scene.version, (_NOTHING_DECIDED,))
    found = differences(Decision.of_episode(scene.episode), decision)
    return Replayed(scene.episode, scene.version, tuple(found))
