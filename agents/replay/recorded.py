"""Recorded replay: the same windows, episodes, answers and graph must come to the same decision."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Literal

from rudder.agents.limit_plan import LIMITS
from rudder.agents.replay.cast import recorded_team, why_not_recorded
from rudder.agents.replay.compare import Decision, Difference, differences
from rudder.agents.replay.decide import decide_again, keep_to_limits_again
from rudder.agents.replay.offline import no_sockets
from rudder.agents.replay.recorded_run import NotReplayable, RecordedRun, Scene
from rudder.memory.records import Episode
from rudder.memory.run_reader import RunReader

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
