"""`rudder bench policy`: what each policy's decisions cost a batch, in milliseconds of one core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rudder.cli.options import NewFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rudder.bench.policy_cost import Cost


def policy(
    policies: Annotated[
        str | None,
        typer.Option(help="Policies with commas between them. [dim]\\[default: all][/dim]"),
    ] = None,
    capacity: Annotated[
        str, typer.Option(help="Rows of the buffer, one series over them.")
    ] = "10000,100000,1000000",
    remote_nodes: Annotated[
        str, typer.Option(help="Sizes of the graph, one series over them for each layout of ids.")
    ] = "100000,1000000,10000000",
    inputs: Annotated[
        int, typer.Option(help="Remote nodes of a batch, in the series over capacities.", min=1)
    ] = 100_000,
    batches: Annotated[int, typer.Option(help="Batches that are timed.", min=1)] = 60,
    out: NewFolder = None,
    json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Time observe + plan on a made-up stream, without a cluster, as buffer and graph grow.

    Example: rudder bench policy --policies lookahead,lfu --capacity 1000000
    """
    from pydantic import RootModel

    from rudder.bench.policy_cost import VARIANTS, Cost
    from rudder.bench.results import check_new, write_json
    from rudder.bench.run import new_folder
    from rudder.cli.options import parts, whole_numbers
    from rudder.cli.show.policies import print_costs
    from rudder.cli.show.progress import say

    sizes = whole_numbers("remote_nodes", remote_nodes, at_least=100)
    capacities = whole_numbers("capacity", capacity, at_least=1)
    file = check_new((out or new_folder()) / "policy.json")
    rows: list[Cost] = []
    try:
        for variant in parts("policies", policies) if policies else VARIANTS:
            say(f"timing {variant}")
            rows += measure(variant, capacities, sizes, inputs=inputs, batches=batches)
            write_json(RootModel[list[Cost]](rows), file)
    finally:
        if rows:
            say(f"results: {file}")
            if json:
                typer.echo(RootModel[list[Cost]](rows).model_dump_json(indent=2))
            else:
                print_costs(rows)


def measure(
    variant: str, capacities: tuple[int, ...], sizes: tuple[int, ...], *, inputs: int, batches: int
) -> Iterator[Cost]:
    """The three series of one policy."""
    from rudder.bench import policy_cost as costs

    for work in costs.by_capacity(capacities, inputs=inputs, num_batches=batches):
        yield costs.measure(variant, work)
    for layout in costs.LAYOUTS:
        works = costs.by_remote_nodes(sizes, layout, num_batches=batches)
        yield from costs.beside_the_first(costs.measure(variant, work) for work in works)
