"""All that lets one loader be steered: its control port, who may steer, and its controller."""

from __future__ import annotations

import atexit
import itertools
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rudder.training.buffer.hot_set import hot_set_beside, hot_set_left
from rudder.training.buffer.policy import Policy
from rudder.training.control.controller_process import ControllerProcess, controller_at
from rudder.training.control.log_heads import LogHeads
from rudder.training.control.peers import KeyValueStore, Peers
from rudder.training.control.service import ControlPort, NoControl
from rudder.training.control.steering import (
    BUDGET_FILE,
    OFF_FILE,
    CommandHandler,
    MemoryQuota,
    NoCommandHandler,
)
from rudder.training.errors import RunError, complain
from rudder.training.local_disk import control_folder_of, local_folder_of
from rudder.training.machine import why_no_buffer
from rudder.training.steering_options import SteeringOptions
from rudder.training.workload import Workload

RUNS_FOLDER = "rudder-runs"
"""Runs of scripts that name no folder are here."""
_LOADERS = itertools.count()
_loaders_in: Counter[Path] = Counter()
"""Loaders of this process that named a folder, or all that named none."""


@dataclass(frozen=True)
class ProcessGroup:
    """A rank in its process group; store: of the group, None where there is no group."""

    store: KeyValueStore | None
    rank: int
    world_size: int

    def peers(self, run_key: str, *, trainers_on_host: int = 1) -> Peers:
        """The other ranks of one loader's run."""
        return Peers(
            self.store,
            rank=self.rank,
            world_size=self.world_size,
            trainers_on_host=trainers_on_host,
            run_key=run_key,
        )

    def log_heads(self, run_key: str) -> LogHeads:
        """Where the logs of one loader's run end."""
        return LogHeads(self.store, rank=self.rank, world_size=self.world_size, run_key=run_key)

    def agree(self, subject: str, proposal: str) -> str:
        """The same text on all ranks: what the first of them proposed; never waits for a rank."""
        if self.store is None:
            return proposal
        try:
            return self.store.compare_set(f"rudder/{subject}", "", proposal).decode()
        except (RuntimeError, OSError):
            return proposal

    def count(self, subject: str, more: int = 0) -> int:
        """Add to a counter of all ranks, and read it; 0 where there is no group."""
        if self.store is None:
            return 0
        try:
            return self.store.add(f"rudder/{subject}", more)
        except (RuntimeError, OSError) as error:
            raise RunError(
                f"the key-value store of the process group does not answer: {error}",
                remedy="see whether rank 0, which keeps it, has ended",
            ) from None

    def new_run_key(self) -> str:
        """A name for what the next loader of this process does; the same on all ranks."""
        return self.agree(f"run/{next(_LOADERS)}", secrets.token_hex(8))

    def default_folder(self) -> Path:
        """A folder for a script that names none; jobs that start together have different ones.

        Trainers that cannot agree have the same one as long as they start in the same second.
        """
        name = time.strftime("%Y%m%d-%H%M%S")
        if self.store is not None or self.world_size == 1:
            name += f"-{secrets.token_hex(2)}"
        else:
            complain(
                f"rudder: rank {self.rank}: trainers without a process group may record into"
                " different folders; name one with run=RunOptions(folder=...)"
            )
        return Path(RUNS_FOLDER) / self.agree("folder", name)


class ControlEndpoint:
    """A loader's control port and what stands behind it; closed together."""

    def __init__(
        self,
        group: ProcessGroup,
        *,
        policy: Policy,
        loader_info_of: Callable[[str], Workload],
        control: Path | None = None,
        controller: SteeringOptions | None = None,
        memory_budget_bytes: int | None = None,
        folder: Path | None = None,
        run_key: str | None = None,
    ) -> None:
        """Open the control port, if there is to be one, and start the controller.

        loader_info_of: gives the workload for a run key; control: path of the port's socket;
        controller: start one that steers so, which has a socket in any case; memory_budget_bytes:
        of all buffers of the host; folder: for the socket and for what the controller writes;
        run_key: of a run that goes on, None: this is a new one.
        """
        self.port: ControlPort | NoControl = NoControl()
        self.steering: CommandHandler | NoCommandHandler = NoCommandHandler()
        self.controller: ControllerProcess | None = None
        self._policy = policy
        self._hot_set_left: Path | None = None
        self.run_key = run_key
        if controller is not None:
            try:
                folder = _writable(_own_folder((folder or group.default_folder()).absolute()))
                control = control or control_folder_of(folder) / f"rank{group.rank}.sock"
            except OSError as error:
                controller = None
                complain(f"rudder: no agents, since no folder can be written: {error}")
        if control is None:
            return
        self.run_key = run_key = run_key or group.new_run_key()
        workload = loader_info_of(run_key)
        self.port = ControlPort(
            control,
            rank=group.rank,
            workload=workload,
            peers=group.peers(run_key, trainers_on_host=workload.trainers_on_host),
            heads=group.log_heads(run_key),
        )
        self.steering = CommandHandler(
            self.port,
            policy,
            rank=group.rank,
            quota=quota_of(workload, memory_budget_bytes, folder=control.parent),
            off_file=control.parent / OFF_FILE,
            hot_set=hot_set_beside(control),
        )
        if controller is not None and folder is not None:
            self._hot_set_left = hot_set_left(folder, rank=group.rank)
            self.controller = controller_at(
                control, rank=group.rank, options=controller, folder=folder
            )
        atexit.register(self.close)  # after the controller's own, so that it comes before that

    def close(self) -> None:
        """Close the port, and let the controller end; once, at the latest when Python ends."""
        atexit.unregister(self.close)
        self.steering.close()
        self._leave_hot_set()
        if self.controller is not None:
            self.controller.close()

    def _leave_hot_set(self) -> None:
        """Keep what was used most for the next run; without it that run is only slower at first."""
        path, self._hot_set_left = self._hot_set_left, None
        hot = self._policy.hot_set()
        if path is not None and len(hot.nodes):
            with suppress(OSError):
                hot.save(path)


def _own_folder(folder: Path) -> Path:
    """Where a loader writes: the first in the folder itself, the next ones in folders within."""
    _loaders_in[folder] += 1
    number = _loaders_in[folder]
    return folder if number == 1 else folder / f"loader{number}"


def _writable(folder: Path) -> Path:
    """The folder, or one on the local disk where it cannot be written; raises OSError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        local = local_folder_of(folder)
        complain(f"rudder: {folder} cannot be written ({error.strerror}); the record is in {local}")
        return local


def quota_of(workload: Workload, budget: int | None, *, folder: Path) -> MemoryQuota:
    """The rows that this loader's buffer may have; a budget that leaves none is told of."""
    problem = why_no_buffer(
        budget, trainers=workload.trainers_on_host, row_bytes=workload.row_bytes
    )
    if problem is not None:
        complain(f"rudder: rank {workload.rank}: {problem}")
    return MemoryQuota(workload, budget_bytes=budget, budget_file=folder / BUDGET_FILE)
