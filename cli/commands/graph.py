"""`rudder graph` and `rudder tools`: the agents' graph, and what agents may read and change."""

from __future__ import annotations

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from rudder.cli.options import AsJson
from rudder.cli.show.progress import emit
from rudder.tools.catalog import SPECS, tool_schemas


def graph() -> None:
    """Print the graph of agents as Mermaid text.

    Example: rudder graph > graph.mmd
    """
    from rudder.agents.actuator import NoActuator
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
        act=NoActuator(),
        recall=Journal().recall,
    )
    typer.echo(drawn(built), nl=False)


def tools(json: AsJson = False) -> None:
    """List the tools that agents read a run with, and stage changes with.

    Example: rudder tools --json
    """
    lines: list[RenderableType] = []
    for spec in SPECS:
        arguments = ", ".join(spec.arguments.model_fields) or "no arguments"
        lines.append(Text.assemble((spec.name, "bold"), f" ({spec.kind}): {arguments}"))
        lines.append(Padding(Text(spec.description), (0, 0, 1, 4)))
    emit(tool_schemas(), Group(*lines), json=json)
