"""What a script may set of a loader's sampling, and of the files that it uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field, InstanceOf

from rudder.training.loading.state import LoaderState
from rudder.training.metrics import Window
from rudder.training.options import Options

__all__ = ["RunOptions", "SamplingOptions"]


class SamplingOptions(Options):
    """What is rarely set of a loader's order and of its blocks."""

    order: Any = None
    """int64[n]: a phase of each seed, as tensor, array or list. Seeds are visited in ascending
    order of phase."""
    edge_ids: bool = True
    """Whether blocks carry `dgl.EID`."""


class RunOptions(Options):
    """Where a loader listens and writes, how long it waits for a server, where it goes on."""

    folder: Path | None = None
    """Folder of the control socket and of the record, where agents steer. None:
    `rudder-runs/<time>`."""
    control: Path | None = None
    """The Unix socket on which settings may be changed. None: one in `folder` where agents steer,
    else none."""
    trace: Path | None = None
    """File in which to record the remote nodes of every batch, for `rudder simulate`."""
    on_window: Callable[[Window], None] | None = None
    """Called with the measurements of every 16 steps, or of more steps where agents have nothing to
    look for, on the training thread."""
    timeout_s: float = Field(120.0, gt=0)
    """Longest wait for a server's answer, in seconds."""
    resume_from: InstanceOf[LoaderState] | None = None
    """What `state()` of an earlier loader with the same arguments returned. The first loop gives
    the rest of that epoch."""
