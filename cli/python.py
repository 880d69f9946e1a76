"""Commands as Python functions, for notebooks and sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rudder.cli.commands.train import config_of_resumed, run
from rudder.cli.show.progress import Verbosity, speaking
from rudder.training.config import run_config

if TYPE_CHECKING:
    from rudder.training.metrics import Summary

__all__ = ["train"]


def train(
    *,
    config: str | Path | None = None,
    resume: str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Summary:
    """Train as `rudder train` does, and return what it writes to `summary.json`.

    Args:
        config: TOML file with settings; those that are given here win.
        resume: Folder of a run, or one of its checkpoints, to go on with.
        quiet: Write no progress to standard error.
        settings: The options of `rudder train`, by name: `batch_size=512`, `fanout=(5, 10)`. Those
            that are left out, or None, have their defaults. A `goal` is not asked about.

    Raises:
        ConfigError: A setting is unknown or outside its range.
        DataError: The graph, its partitions or the checkpoint cannot be used.
        MachineError: The machine lacks something, or a file cannot be written.
        RunError: A process failed or was killed; StoppedError after SIGTERM or SIGUSR1.
    """
    if settings.get("goal") is not None:
        from rudder.cli.goal import with_goal

        settings = with_goal(settings, yes=True)
    file = None if config is None else Path(config)
    with speaking(Verbosity.QUIET if quiet else Verbosity.NORMAL):
        if resume is None:
            return run(run_config(file, **settings), show=_nothing)
        place = Path(resume)
        resumed = config_of_resumed(place, config_file=file, **settings)
        return run(resumed, show=_nothing, resume=place)


def _nothing(summary: Summary) -> None:
    """Show nothing."""
