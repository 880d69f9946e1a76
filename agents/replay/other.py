"""What another planner would have decided on the same inputs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from rudder.agents.guard import LIMITS
from rudder.agents.llm.asker import Asker
from rudder.agents.replay.cast import recorded_team
from rudder.agents.replay.compare import Decision
from rudder.agents.replay.recorded import decide_again
from rudder.agents.replay.recorded_run import NotReplayable, RecordedRun, Scene
from rudder.agents.roles import Planner
from rudder.agents.team import Team, asker_of, open_chat, planner_of, with_llm
from rudder.agents.turns import TEAM
from rudder.memory.records import Episode
from rudder.memory.run.run_reader import RunReader
from rudder.tools.offline import no_sockets
from rudder.training.steering_options import SteeringOptions

_NO_CHOICE = {
    LIMITS: "a limit was kept to: no planner was asked",
    TEAM: "another rank's change was made, too: no planner was asked",
}


@dataclass(frozen=True)
class Alternative:
    """One decision as it was made, and as the other planner makes it; None, with a reason, where
    it cannot be made again."""

    episode: Episode
    stored: Decision
    other: Decision | None
    reason: str | None = None

    @property
    def is_same(self) -> bool:
        """Whether the same would have been proposed."""
        return self.other is not None and self.other.plan.change == self.stored.plan.change


class OtherPlanner:
    """Decides on stored inputs, in its own state from decision to decision.

    Observer and critic are those of then, but for a model that was critic: what it would have said
    to other plans is not known, so the embedded critic speaks. Only a model is asked over a socket.
    """

    def __init__(self, options: SteeringOptions) -> None:
        """options: the planner, its file or its endpoint; what is called better, each run says."""
        self._options = options
        self._planners: dict[str, Planner] = {}
        self._askers: list[Asker] = []

    async def replay(
        self, reader: RunReader, *, names: Collection[str] | None = None
    ) -> AsyncIterator[Alternative]:
        """Decide on all decisions of a rank's file, or on those with these ids."""
        for scene in RecordedRun(reader).decisions(names):
            stored = Decision.of_episode(scene.episode)
            if isinstance(scene, NotReplayable):
                yield Alternative(scene.episode, stored, None, scene.reason)
                continue
            if (reason := _NO_CHOICE.get(scene.episode.plan.planner)) is not None:
                yield Alternative(scene.episode, stored, None, reason)
                continue
            team = recorded_team(scene)
            team = Team(team.observer, self._planner(scene, team), team.critic)
            with self._line():
                other = await decide_again(scene, team)
            yield Alternative(scene.episode, stored, other, None if other else "nothing was seen")

    async def close(self) -> None:
        """Let go of connections."""
        for asker in self._askers:
            await asker.close()

    def _line(self) -> AbstractContextManager[None]:
        return nullcontext() if self._options.planner == "llm" else no_sockets()

    def _planner(self, scene: Scene, team: Team) -> Planner:
        inputs, workload = scene.inputs, scene.workload
        options = self._options.model_copy(
            update={"objective": inputs.objective, "tolerance": inputs.tolerance}
        )
        key = f"{workload.run_key} {workload.rank} {options.objective} {options.tolerance}"
        if key not in self._planners:
            self._planners[key] = self._made(options, scene, team)
        return self._planners[key]

    def _made(self, options: SteeringOptions, scene: Scene, team: Team) -> Planner:
        if options.planner != "llm":
            return planner_of(options)
        asker = asker_of(open_chat(options), options=options)
        self._askers.append(asker)
        embedded = Team(team.observer, planner_of(options), team.critic)
        return with_llm(embedded, asker, options=options, waits=True).planner
