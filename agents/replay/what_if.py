"""What the stored accesses say of the settings in force, the decision, other settings, and OPT."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from rudder.agents.guard import LIMITS
from rudder.agents.llm.prompts import brief
from rudder.agents.replay.recorded_run import NotReplayable, RecordedRun, Scene
from rudder.memory.records import Episode
from rudder.memory.run.run_reader import RunReader
from rudder.tools.calls import Effect, ToolError
from rudder.training.settings import BufferSettings, Change

SettingsKind = Literal["in force", "decision", "refused plan", "alternative", "OPT"]


@dataclass(frozen=True)
class Outlook:
    """One choice of settings; rows fetched and exposed wait per step. change: None for OPT, which
    is no setting; capacity_rows: of its buffer."""

    kind: SettingsKind
    change: Change | None
    capacity_rows: int
    effect: Effect


@dataclass(frozen=True)
class WhatIfs:
    """All choices at one decision; none, with a reason, where nothing can be said."""

    episode: Episode
    outlooks: tuple[Outlook, ...] = ()
    reason: str | None = None

    @property
    def best(self) -> Outlook | None:
        """The legal settings that fetch least; of equals the first."""
        legal = (each for each in self.outlooks if each.kind not in ("OPT", "refused plan"))
        return min(legal, key=lambda each: each.effect.rows_fetched.mid, default=None)


def what_if(reader: RunReader, *, names: Collection[str] | None = None) -> Iterator[WhatIfs]:
    """Look at all decisions of a rank's file, or at those with these ids."""
    for scene in RecordedRun(reader).decisions(names):
        if isinstance(scene, NotReplayable):
            yield WhatIfs(scene.episode, reason=scene.reason)
        elif not scene.toolbox.whatif.is_ready:
            yield WhatIfs(scene.episode, reason="too few accesses had been seen")
        else:
            yield WhatIfs(scene.episode, tuple(_outlooks(scene)))


def _outlooks(scene: Scene) -> Iterator[Outlook]:
    toolbox, episode = scene.toolbox, scene.episode
    present, whatif = episode.observation.settings, scene.toolbox.whatif
    kind, decided = _decided(episode)
    yield Outlook("in force", Change(), present.capacity_rows, whatif.present())
    try:
        if not decided.is_empty:
            yield _outlook(kind, decided, present, whatif.effect(decided))
    except ToolError:
        pass  # a plan out of bounds: no trainer could have taken it
    briefing = brief(episode.observation, (), toolbox, objective=scene.inputs.objective)
    for each in briefing.candidates:
        if each.change not in (Change(), decided):
            yield _outlook("alternative", each.change, present, each.effect)
    most = toolbox.limits.max_capacity_rows
    for rows in dict.fromkeys((decided.over(present).capacity_rows, present.capacity_rows, most)):
        if rows <= most:
            yield Outlook("OPT", None, rows, whatif.opt(rows))


def _outlook(
    kind: SettingsKind, change: Change, present: BufferSettings, effect: Effect
) -> Outlook:
    return Outlook(kind, change, change.over(present).capacity_rows, effect)


def _decided(episode: Episode) -> tuple[SettingsKind, Change]:
    """What was let through, or a limit asked for; else what was proposed."""
    verdict, guard = episode.verdict, episode.guard
    if episode.plan.planner == LIMITS:
        return "decision", episode.plan.change
    if verdict is not None and guard is not None and guard.allowed:
        return "decision", verdict.change
    return "refused plan", episode.plan.change
