"""`rudder top` and `rudder diagnose`: what a run does now, and what binds it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rudder.cli.commands.runs import RUNS
from rudder.cli.options import WHEN_RECORDED, AsJson, FolderOfRun, run_folders
from rudder.cli.show.progress import emit, say
from rudder.training.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rudder.memory.run.run_folder import StoredRun
    from rudder.training.events import Event

_LOOK_S = 1.0
_MOST_POINTS = 400


def top(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a run; default: the newest in runs/ that trains now.",
            autocompletion=run_folders,
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
) -> None:
    """Watch a run from another terminal: every rank's progress, and what its agents decide.

    It reads only the run's folder. It ends when the run does, or with Ctrl-C. If standard error is
    no terminal, it writes a line for each decision. Of a run that is over it shows the end.

    Example: rudder top runs/demo
    """
    from rich.console import Console

    from rudder.cli.show.display import LiveDisplay, PlainDisplay, RunProgress
    from rudder.cli.show.steering_lines import SteeringWatch

    watched = _watched(run)
    if not watched.is_live:
        say(f"{watched.folder} does not train now ({watched.state}); this is what it did last")
        once = True
    seen: dict[Path, int] = {}
    progress = RunProgress(
        num_ranks=len(watched.files),
        epochs=int(watched.config.get("epochs", 0)),
        watch=SteeringWatch(watched.folder),
    )
    console = Console(stderr=not once)
    if once:
        for event in _events(watched, seen):
            progress.note(event)
        console.print(progress.table(), highlight=False)
        return
    make = LiveDisplay if console.is_terminal else PlainDisplay
    with suppress(KeyboardInterrupt), make(console, progress) as display:
        is_live = True
        while is_live:
            is_live = watched.is_live
            for event in _events(watched, seen):
                display.on_event(event)
            time.sleep(_LOOK_S if is_live else 0)


def _watched(run: Path | None) -> StoredRun:
    """The run that was named, or the newest one that trains now; raises ConfigError."""
    from rudder.memory.run.run_folder import StoredRun, find_runs

    found = [StoredRun(run)] if run is not None else find_runs(RUNS)
    known = [each for each in found if each.files and (run is not None or each.is_live)]
    if known:
        return known[0]
    what = "no run in runs/ with a record trains now" if run is None else f"{run} has no record"
    raise ConfigError(what, remedy=f"see `rudder runs list`; {WHEN_RECORDED}")


def _events(run: StoredRun, seen: dict[Path, int]) -> Iterator[Event]:
    """What came since the last look: at first, the windows of each rank's present epoch."""
    from rudder.memory.run.run_reader import RunReader
    from rudder.training.events import PhaseEntered, Progress

    for path in run.files:
        with suppress(DataError), RunReader(path) as reader:
            work = next(reversed(reader.workloads().values()), None)
            for number, window in reader.windows_after(seen.get(path)):
                seen[path] = number
                yield PhaseEntered(role="trainer", rank=window.rank, phase="training")
                steps = window.num_steps if work is None else work.batches_per_epoch
                done = window.first_step + window.num_steps - window.epoch * steps
                yield Progress(
                    rank=window.rank,
                    epoch=window.epoch,
                    steps_in_epoch=steps,
                    step_in_epoch=done,
                    window=window,
                )


def diagnose(
    run: FolderOfRun,
    json: AsJson = False,
) -> None:
    """Say what binds each rank: compute, processors, link, owner, imbalance or memory.

    Plain rules say so, without a language model, from means of the second half of what was
    measured. `owner` is another host that answers slowly; `imbalance` a trainer that the others
    wait for.

    Example: rudder diagnose runs/demo
    """
    from rudder.cli.show.runs import diagnosis_table
    from rudder.memory.run.diagnosis import diagnose as found_in
    from rudder.memory.run.run_folder import StoredRun

    found = found_in(StoredRun(run).series(num_points=_MOST_POINTS))
    if not found:
        raise DataError(
            f"in {run} nothing was measured", remedy="wait for its first epoch, or see its logs"
        )
    emit([each.to_dict() for each in found], diagnosis_table(found), json=json)
