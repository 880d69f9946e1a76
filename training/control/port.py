"""A trainer's control port: changes of settings in, metrics windows out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Self

from rudder.training.control import unix_socket
from rudder.training.control.finished_window import FinishedWindow
from rudder.training.control.messages import Rejected, read_message, to_line
from rudder.training.control.peers import NO_PEERS, NoPeers, Peers
from rudder.training.control.service import ControlService
from rudder.training.errors import RunError
from rudder.training.settings import Applied, Command
from rudder.training.workload import Workload


class ControlPort(ControlService):
    """A trainer's control port: a Unix-domain socket, served by one daemon thread."""

    def __init__(
        self,
        path: Path,
        rank: int,
        *,
        workload: Workload | None = None,
        peers: Peers | NoPeers = NO_PEERS,
    ) -> None:
        """Listen at `path`; raises RunError where that is impossible.

        workload: what subscribers are told of the run; peers: the other ranks.
        """
        listener = unix_socket.listen(path)
        self._path = path
        self._inode = path.stat().st_ino
        super().__init__(listener, rank=rank, workload=workload, peers=peers)

    def close(self) -> None:
        """Refuse the commands that wait, end the thread and remove the socket file."""
        super().close()
        with suppress(OSError):  # another port has the path, or the disk became read-only
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close, whatever happened."""
        self.close()


class NoControl:
    """In place of a control port where there is none."""

    has_subscribers = False

    def publish(self, window: FinishedWindow) -> None:
        """Do nothing."""


def send_command(path: Path, command: Command, timeout_s: float) -> Applied:
    """Send a command to the trainer at `path` and wait for its answer.

    Raises RunError where nobody listens, the command is rejected, or no answer comes in time.
    """
    try:
        with (
            unix_socket.connect(path, timeout_s=timeout_s) as client,
            client.makefile("rb") as lines,
        ):
            client.sendall(to_line(command))
            for line in lines:
                if (applied := _applied(line, command)) is not None:
                    return applied
        raise ConnectionResetError
    except TimeoutError:
        raise RunError(
            f"the trainer at {path} gave no answer within {timeout_s:g} s",
            remedy="it answers between two batches: wait, and ask for the settings in force;"
            " the change may yet be applied",
        ) from None
    except (BrokenPipeError, ConnectionResetError):
        raise RunError(
            f"the trainer at {path} closed the connection without an answer",
            remedy="see whether it has ended: its log is in the run folder",
        ) from None
    except OSError as error:
        raise RunError(
            f"no trainer listens at {path}: {error.strerror or error}",
            remedy="check the run folder and the rank; a run that has ended cannot be changed",
        ) from None


def _applied(line: bytes, command: Command) -> Applied | None:
    answer = read_message(line)
    if isinstance(answer, Rejected):
        raise RunError(
            f"command {command.command_id} was rejected: {answer.reason}",
            remedy="nothing was changed; correct the command and send it again",
            rank=answer.rank,
        )
    if isinstance(answer, Applied) and answer.command_id == command.command_id:
        return answer
    return None
