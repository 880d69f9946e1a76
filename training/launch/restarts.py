"""Starts a run again, from its last checkpoint, after a process or a machine of it was lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rudder.training.checkpoint.reader import newest_checkpoint
from rudder.training.config import RunConfig
from rudder.training.errors import MachineError, RunError, StoppedError
from rudder.training.events import Event
from rudder.training.launch.run import launch
from rudder.training.metrics import RankReport
from rudder.training.partitioned_graph import PartitionedGraph

_PAUSE_SECONDS = 10.0
"""Before a machine that was lost, and that no other replaces, is tried again."""


def launch_with_restarts(
    config: RunConfig,
    *,
    graph: PartitionedGraph,
    run_dir: Path,
    on_event: Callable[[Event], None],
    resume_from: Path | None,
    tell: Callable[[str], None],
) -> list[RankReport]:
    """Launch, and launch again after a failure, at most `max_restarts` times.

    A machine that was lost is replaced by the next one of `spare_hosts`; without one it is tried
    again. A run without a checkpoint begins anew, and what it has written is kept beside it. The
    last failure is raised, and at once what is no failure of a machine or a process.
    """
    for left in range(config.max_restarts, -1, -1):
        try:
            return launch(
                config, graph=graph, run_dir=run_dir, on_event=on_event, resume_from=resume_from
            )
        except (RunError, MachineError) as error:
            if left == 0 or not _may_help(error, has_begun=left < config.max_restarts):
                raise
            config = _with_other_machines(config, error, tell)
            resume_from = _place_to_go_on(config, graph, run_dir)
            where = "from the beginning" if resume_from is None else f"from {resume_from}"
            tell(f"{error}\nstarting again {where}; {left - 1} more times at most")
    raise AssertionError("the last attempt returns or raises")


def _may_help(error: RunError | MachineError, *, has_begun: bool) -> bool:
    """Whether the same might go well next time; has_begun: the run was started before."""
    if isinstance(error, MachineError):
        return has_begun
    is_failure = error.exit_code == RunError.exit_code  # not of a setting, or of the data
    return is_failure and not isinstance(error, StoppedError) and not error.is_wanted


def _with_other_machines(
    config: RunConfig, error: RunError | MachineError, tell: Callable[[str], None]
) -> RunConfig:
    """The run without the machines that were lost, as far as there are others."""
    machines, spares = list(config.machines), list(config.spare_hosts)
    lost = [each for each in machines if each.split()[0] in error.lost_hosts]
    for machine in lost[: len(spares)]:
        machines[machines.index(machine)] = spare = spares.pop(0)
        tell(f"{spare.split()[0]} takes the place of {machine.split()[0]}")
    if len(lost) > len(config.spare_hosts):
        time.sleep(_PAUSE_SECONDS)
    return config.model_copy(update={"machines": tuple(machines), "spare_hosts": tuple(spares)})


def _place_to_go_on(config: RunConfig, graph: PartitionedGraph, run_dir: Path) -> Path | None:
    """The newest checkpoint; without one the folder is put aside."""
    if (found := newest_checkpoint(run_dir, config, graph)) is not None:
        return found.folder.absolute()
    number = 1
    while (aside := run_dir.with_name(f"{run_dir.name}-failed{number}")).exists():
        number += 1
    run_dir.rename(aside)
    return None
