"""`rudder graph`: the agents' graph."""

from __future__ import annotations

import typer


def graph() -> None:
    """Print the graph of agents as Mermaid text.

    Example: rudder graph > graph.mmd
    """
    from rudder.agents.critic import EmbeddedCritic
    from rudder.agents.graph import build_graph, drawn
    from rudder.agents.guard import Guard
    from rudder.agents.observer import EmbeddedObserver
    from rudder.agents.planners.embedded import EmbeddedPlanner
    from rudder.memory.journal import Journal

    built = build_graph(
        observer=EmbeddedObserver(),
        planner=EmbeddedPlanner(),
        critic=EmbeddedCritic(),
        guard=Guard(),
        recall=Journal().recall,
    )
    typer.echo(drawn(built), nl=False)
