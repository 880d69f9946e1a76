"""Traffic of policies, for people: tables, and the questions that the command line asks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from rudder.agents import figures
from rudder.agents.command_lists import parts, whole_numbers
from rudder.training.config import BUFFER_FORMS, BufferSize
from rudder.training.errors import ConfigError
from rudder.training.settings import MAX_LOOKAHEAD_BATCHES
from rudder.training.simulate.study import OPT, Question, Study, Traffic

if TYPE_CHECKING:
    from rudder.training.simulate.recording import Recording


def question(policies: str, capacity: str, lookahead: str, *, warm_epochs: int) -> Question:
    """Read the lists of the command line; raises ConfigError that names what is wrong."""
    return Question(
        policies=tuple(parts("policies", policies)),
        capacities=tuple(_capacity(part) for part in parts("capacity", capacity)),
        lookaheads=whole_numbers("lookahead", lookahead, at_most=MAX_LOOKAHEAD_BATCHES),
        warm_epochs=warm_epochs,
    )


def _capacity(text: str) -> BufferSize:
    try:
        return BufferSize.parse(text)
    except ValueError:
        raise ConfigError.for_field("capacity", value=text, allowed=BUFFER_FORMS) from None


def simulate(places: Sequence[Path], asked: Question) -> tuple[list[Recording], list[Traffic]]:
    """Read all traces of these run folders and files, and answer; raises DataError, ConfigError."""
    from rudder.training.simulate.recording import find_traces, read_recording
    from rudder.training.simulate.variants import make_policy_of

    recordings = [read_recording(file) for file in find_traces(list(places))]
    return recordings, Study(recordings, make=make_policy_of).answer(asked)


def print_traffic(rows: Sequence[Traffic], *, title: str, console: Console | None = None) -> None:
    """Print one table, the capacities one below the other.

    console: default standard output.
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    names = ("ahead", "fetched", "of all", "/ OPT", "hits", "halo\nhits", "M rows\na second")
    table.add_column("capacity", justify="right", no_wrap=True)
    table.add_column("policy", overflow="fold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row.policy == OPT and table.row_count:
            table.add_section()
        table.add_row(*_cells(row), style="bold" if row.policy == OPT else None)
    console = Console() if console is None else console
    console.print(table, highlight=False)
    cold, everything = figures.count(rows[0].cold_rows), figures.count(rows[0].remote_rows)
    console.print(f"without a buffer {everything} rows, each row once {cold}", highlight=False)


def _cells(row: Traffic) -> tuple[str, ...]:
    share = row.rows_fetched / row.remote_rows if row.remote_rows else None
    return (
        _capacity_text(row),
        "OPT" if row.policy == OPT else row.policy,
        figures.ABSENT if row.lookahead is None else str(row.lookahead),
        figures.count(row.rows_fetched),
        figures.percent(share),
        figures.ABSENT if row.ratio_to_opt is None else f"{row.ratio_to_opt:.3f}",
        figures.percent(row.hit_fraction),
        figures.percent(row.halo_hit_fraction),
        f"{row.accesses_per_second / 1e6:.1f}",
    )


def _capacity_text(row: Traffic) -> str:
    if isinstance(row.capacity, float):
        return f"{100 * row.capacity:g} %"
    return figures.count(row.capacity_rows)
