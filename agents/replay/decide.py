"""A recorded decision made again, by the graph of agents or without; nothing is carried out."""

from __future__ import annotations

from rudder.agents.act import NoActuator
from rudder.agents.graph import build_graph, decide
from rudder.agents.limit_plan import limit_plan
from rudder.agents.llm.team import Team
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.replay.cast import paced
from rudder.agents.replay.compare import Decision
from rudder.agents.replay.recorded_run import Scene


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
