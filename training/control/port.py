"""Sends commands to the control port of a trainer."""

from __future__ import annotations

from pathlib import Path

from rudder.training.control import unix_socket
from rudder.training.control.messages import Rejected, read_message, to_line
from rudder.training.errors import RunError
from rudder.training.settings import Applied, Command


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
