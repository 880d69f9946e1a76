"""`rudder plan`: memory, disk, start and traffic of a run that is yet to be made."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Group

from rudder.cli.options import AsJson, parts, whole_numbers
from rudder.cli.show import figures
from rudder.cli.show.progress import emit
from rudder.training.errors import ConfigError
from rudder.training.launch.plan import RunEstimate, RunSize
from rudder.training.launch.plan import plan as planned
from rudder.training.options import kilobits_of
from rudder.training.settings import DEFAULT_LOOKAHEAD_BATCHES

_RATES = "1gbit,10gbit,25gbit,100gbit"


def plan(
    *,
    nodes: Annotated[float, typer.Option(help="Nodes of the graph: 111e6.", min=1)],
    edges: Annotated[float, typer.Option(help="Edges, both directions: 3.2e9.", min=0)],
    hosts: Annotated[int, typer.Option(help="Hosts, one partition each.", min=1)],
    features: Annotated[int, typer.Option(help="Numbers in a node's features.", min=1)] = 128,
    feature_bytes: Annotated[int, typer.Option(help="Bytes of each of them.", min=1)] = 4,
    train: Annotated[
        float | None, typer.Option(help="Training nodes. Default: a tenth of all.", min=1)
    ] = None,
    trainers_per_host: Annotated[int, typer.Option(help="Trainers on each host.", min=1)] = 1,
    servers_per_host: Annotated[int, typer.Option(help="Graph servers on each host.", min=1)] = 1,
    fanout: Annotated[str, typer.Option(help="Neighbours per layer, input layer first.")] = "5,10",
    batch_size: Annotated[int, typer.Option(help="Seeds per trainer and step.", min=1)] = 512,
    lookahead: Annotated[
        int, typer.Option(help="Batches that are sampled ahead.", min=0)
    ] = DEFAULT_LOOKAHEAD_BATCHES,
    buffer: Annotated[
        float | None, typer.Option(help="Rows of a trainer's buffer. Default: all remote ones.")
    ] = None,
    halo: Annotated[
        float,
        typer.Option(help="Share of the other hosts' nodes within one hop of a host's.", max=1),
    ] = 1.0,
    cut: Annotated[
        float | None,
        typer.Option(help="Share of edges between hosts (`rudder data`). Default: as by chance."),
    ] = None,
    rates: Annotated[str, typer.Option(help="Rates of a host's link.")] = _RATES,
    json: AsJson = False,
) -> None:
    """Estimate memory, disk, start time and traffic of each host of a run, without the graph.

    Example: rudder plan --nodes 111e6 --edges 3.2e9 --hosts 8 --train 1.2e6
    """
    size = RunSize(
        num_nodes=int(nodes),
        num_edges=int(edges),
        num_train=int(train or max(1.0, nodes / 10)),
        row_bytes=features * feature_bytes,
        hosts=hosts,
        trainers_per_host=trainers_per_host,
        servers_per_host=servers_per_host,
        fanout=whole_numbers("fanout", fanout, at_least=1),
        batch_size=batch_size,
        lookahead=lookahead,
        halo_fraction=halo,
        cut_fraction=(hosts - 1) / hosts if cut is None else cut,
        buffer_rows=None if buffer is None else int(buffer),
    )
    found = planned(size)
    speeds = {rate: _bits(rate) for rate in parts("rates", rates)}
    value = {
        **asdict(found),
        "host_bytes": found.host_bytes,
        "seconds": {
            each.what: {rate: each.seconds(bits) for rate, bits in speeds.items()}
            for each in found.traffic
        },
    }
    emit(value, _page(found, speeds), json=json)


def _bits(rate: str) -> float:
    try:
        return 1000.0 * kilobits_of(rate)
    except ValueError:
        raise ConfigError.for_field(
            "rates", value=rate, allowed="rates such as 200mbit, 1gbit"
        ) from None


def _page(found: RunEstimate, speeds: dict[str, float]) -> Group:
    memory = [
        [share.process, share.purpose, str(share.count), figures.mebibytes(share.num_bytes)]
        for share in found.memory
    ]
    memory.append(["host", "all of it", "", figures.mebibytes(found.host_bytes)])
    traffic = [
        [each.what, figures.mebibytes(each.num_bytes),
         *(figures.seconds(each.seconds(bits)) for bits in speeds.values())]
        for each in found.traffic
    ]  # fmt: skip
    return Group(
        figures.table(
            ("process", "what for", "processes", "MiB each"), memory, text=("process", "what for")
        ),
        "",
        figures.table(
            ("rows received by a host", "MiB an epoch", *(f"{rate} s" for rate in speeds)),
            traffic,
            text=("rows received by a host",),
        ),
        "",
        f"disk: {figures.mebibytes(found.disk_bytes)} a host;"
        f" start: about {found.start_seconds:,.0f} s",
    )
