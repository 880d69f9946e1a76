"""The controller process of a host's trainers: windows in, changes out, until they hang up.

    python -m rudder.agents.controller --trainer RANK SOCKET ... --options JSON --folder DIR

Started by the first trainer's loader (training/control/controller_process.py). One event loop for
its whole life; trainers wait for nothing in here, and go on without when this process ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rudder.agents.controller.link import TrainerLink
from rudder.tools.cpu_budget import ALONE, CpuBudget, ProcessShare
from rudder.training.control.messages import Intervention, LogHead, Message, SteeringState
from rudder.training.errors import RudderError, complain
from rudder.training.metrics import Window
from rudder.training.steering_options import SteeringOptions
from rudder.training.workload import Workload

if TYPE_CHECKING:
    from rudder.agents.controller.session import ControllerSession


_PR_SET_PDEATHSIG = 1
HEARTBEAT_S = 5.0
_BEATS_PER_HEAD = 2
"""Every second heartbeat tells where the log ends."""
ATTEMPTS, PAUSE_S = 8, 5.0
"""How often, and after how many seconds, a trainer's controller that failed is begun again while
the process has other trainers to serve."""
LEAVING_S = 2.0
"""How long a decision under way may still take when the trainer has hung up."""


class Controller:
    """One trainer's controller, for one connection."""

    def __init__(
        self,
        link: TrainerLink,
        *,
        options: SteeringOptions,
        folder: Path,
        socket: Path,
        process: ProcessShare = ALONE,
    ) -> None:
        self._link, self._options = link, options
        self._folder, self._socket, self._process = folder, socket, process
        self._session: ControllerSession | None = None
        self._deciding: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until the trainer hangs up."""
        heart = asyncio.create_task(self._beat())
        try:
            async for message in self._link.messages():
                await self._hear(message)
        except Exception as error:
            if self._session is not None:
                self._session.fail(error)
            raise
        finally:
            heart.cancel()
            await self._leave()

    async def _hear(self, message: Message) -> None:
        if isinstance(message, Workload):
            from rudder.agents.controller.session import ControllerSession

            session = ControllerSession(
                message,
                sender=self._link,
                options=self._options,
                folder=self._folder,
                socket=self._socket,
                process=self._process,
            )
            await session.begin()
            self._session = session
        elif self._session is None:
            return
        elif isinstance(message, SteeringState):
            self._session.switch(message)
        elif isinstance(message, Intervention):
            self._session.record(message)
        elif isinstance(message, LogHead):
            self._session.note_head(message)
        elif isinstance(message, Window):
            self._see(self._session, message)
            await asyncio.sleep(0)  # a decision of plain code is made before the next window

    def _see(self, session: ControllerSession, window: Window) -> None:
        """Hand a window on; while a decision is made it is only noted."""
        if self._deciding is not None and not self._deciding.done():
            session.note(window)
        else:
            self._deciding = asyncio.create_task(_take(session, window))

    async def _leave(self) -> None:
        if self._deciding is not None:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(self._deciding, LEAVING_S)
        if self._session is not None:
            await self._session.close()
        await self._link.close()

    async def _beat(self) -> None:
        for number in itertools.count():
            session = self._session if number % _BEATS_PER_HEAD else None
            with contextlib.suppress(ConnectionError):
                await self._link.beat(None if session is None else session.log_head())
            await asyncio.sleep(HEARTBEAT_S)


async def _take(session: ControllerSession, window: Window) -> None:
    """The one broad catch of a controller: a decision that fails is recorded, the next is made."""
    try:
        await session.take(window)
    except Exception as error:
        session.fail(error)


async def control(sockets: Mapping[int, Path], *, options: SteeringOptions, folder: Path) -> None:
    """Be the controller of the trainers, by rank, that listen at `sockets`; raises RunError.

    A failure of one trainer's controller does not end those of the others.
    """
    with _without_pandas():
        import rudder.agents.controller.session  # noqa: F401  while trainers start, it takes seconds
    from rudder.agents.team import import_ahead, warm_up
    from rudder.tools.estimate.popularity import load_ahead

    import_ahead(options)
    if not any(socket.exists() for socket in sockets.values()):
        load_ahead()  # else a loader waits already for what is fetched before its first batch
    process = ProcessShare(CpuBudget(), num_trainers=len(sockets))
    warming = asyncio.create_task(warm_up(options, rank=min(sockets)))
    serving = (_serve(each, options, folder, process) for each in sockets.values())
    ends = await asyncio.gather(*serving, return_exceptions=True)
    warming.cancel()
    for error in filter(None, ends):
        raise error


@contextlib.contextmanager
def _without_pandas() -> Iterator[None]:
    """sqlite-utils imports it where it is installed: 60 MiB that no controller needs."""
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]  # how an import is refused
    try:
        yield
    finally:
        del sys.modules["pandas"]


async def _serve(
    socket: Path, options: SteeringOptions, folder: Path, process: ProcessShare
) -> None:
    """Until one trainer hangs up; raises what made the last attempt fail."""
    for left in reversed(range(ATTEMPTS if process.num_trainers > 1 else 1)):
        try:
            link = await TrainerLink.open(socket)
            controller = Controller(
                link, options=options, folder=folder, socket=socket, process=process
            )
            await controller.run()
            return
        except Exception as error:
            if left == 0:
                raise
            complain(f"rudder: the controller of {socket.stem} failed and begins again: {error}")
        await asyncio.sleep(PAUSE_S)


def main() -> None:
    """Parse the command line and steer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--trainer", nargs=2, action="append", required=True, metavar=("RANK", "SOCKET")
    )
    parser.add_argument("--options", required=True, help="SteeringOptions as JSON")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--parent", type=int, help="process id of the trainer that started it")
    arguments = parser.parse_args()
    _end_with_the_trainer(arguments.parent)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # Slurm sends it to all; trainers answer it
    options = SteeringOptions.model_validate_json(arguments.options)
    started = time.strftime("%Y-%m-%dT%H:%M:%S")
    ranks = ", ".join(rank for rank, _ in arguments.trainer)
    complain(f"{started} controller of rank {ranks}, process {os.getpid()}")
    sockets = {int(rank): Path(socket) for rank, socket in arguments.trainer}
    try:
        asyncio.run(control(sockets, options=options, folder=arguments.folder))
    except RudderError as error:
        complain(f"error: {error}")
        sys.exit(error.exit_code)


def _end_with_the_trainer(parent: int | None) -> None:
    """Have the kernel end this process, even a stopped one, when its trainer is gone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        sys.exit("the trainer ended before the kernel was told")


if __name__ == "__main__":
    main()
