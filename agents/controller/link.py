"""A controller's connection to its trainer: commands out, everything else in."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from rudder.agents.actuator import NoAnswerError
from rudder.training.control import unix_socket
from rudder.training.control.messages import (
    Attention,
    CommandRejected,
    Heartbeat,
    LogHead,
    Message,
    Subscribe,
    TurnAnswer,
    TurnRequest,
    read_message,
    to_line,
)
from rudder.training.errors import RunError
from rudder.training.settings import Applied, Change, Command
from rudder.training.turn import RankTurn

MAX_MESSAGE_BYTES = 16 * 2**20
CONNECT_TIMEOUT_S = 10.0
OPEN_TIMEOUT_S = 600.0
"""A controller is started before its trainer has its graph, which may take minutes."""
_RETRY_S = 0.05
ANSWER_TIMEOUT_S = 60.0
TURN_TIMEOUT_S = 5.0
"""Port and store answer within milliseconds."""


class TrainerLink:
    """One connection to a control port, for the whole life of a controller's event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._asked: dict[str, asyncio.Future[Applied]] = {}
        self._turn: asyncio.Future[RankTurn | None] | None = None
        self._one_turn = asyncio.Lock()
        self._num_beats = 0
        self._reading: asyncio.Task[None] | None = None
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()

    @classmethod
    async def open(cls, path: Path) -> TrainerLink:
        """Connect and subscribe to the trainer's windows, once it listens.

        Raises RunError where it does not within OPEN_TIMEOUT_S.
        """
        client = await _connected(path)
        client.setblocking(False)
        link = cls(*await asyncio.open_unix_connection(sock=client, limit=MAX_MESSAGE_BYTES))
        await link._send(Subscribe(subscribe="windows"))
        return link

    async def messages(self) -> AsyncIterator[Message]:
        """What the trainer tells, until it ends; raises what kept it from being read.

        Answers to commands go to who asked, also while what was told before is still worked on.
        """
        self._reading = asyncio.create_task(self._read())
        while (message := await self._inbox.get()) is not None:
            yield message
        await self._reading

    async def send(self, change: Change, *, issued_at_step: int | None) -> Applied:
        """Send a change (an empty one asks for the state) and wait for the answer.

        Raises RunError where the trainer rejects it, NoAnswerError where no answer comes.
        """
        command = Command(
            command_id=uuid.uuid4().hex,
            change=change,
            origin="controller",
            issued_at_step=issued_at_step,
        )
        answer: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        self._asked[command.command_id] = answer
        try:
            await self._send(command)
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await answer
        except TimeoutError:
            raise NoAnswerError(
                f"the trainer gave no answer within {ANSWER_TIMEOUT_S:g} s",
                remedy="look at the trainer's log; it answers between two batches",
            ) from None
        finally:
            self._asked.pop(command.command_id, None)

    async def attend(self, attention: Attention) -> None:
        """Tell the trainer what its windows are to show."""
        await self._send(attention)

    async def write_turn(self, turn: RankTurn, *, instead_of: RankTurn | None) -> RankTurn | None:
        """Put a turn in place of the job's newest, through the trainer; the newest then. None: the
        ranks cannot agree."""
        async with self._one_turn:
            self._turn = asyncio.get_running_loop().create_future()
            await self._send(TurnRequest(turn=turn, instead_of=instead_of))
            with suppress(TimeoutError):
                return await asyncio.wait_for(self._turn, TURN_TIMEOUT_S)
            return None

    async def beat(self, head: LogHead | None = None) -> None:
        """Tell the trainer that its controller lives; head: where its log ends."""
        self._num_beats += 1
        await self._send(Heartbeat(heartbeat=self._num_beats, head=head))

    async def close(self) -> None:
        """Hang up."""
        if self._reading is not None:
            self._reading.cancel()
        self._writer.close()

    async def _read(self) -> None:
        try:
            while line := await self._next_line():
                message = read_message(line)
                if isinstance(message, Applied):
                    self._answer(message.command_id, message)
                elif isinstance(message, CommandRejected):
                    self._fail(message)
                elif isinstance(message, TurnAnswer):
                    self._answer_turn(message.turn)
                elif message is not None:
                    self._inbox.put_nowait(message)
        finally:
            for future in self._asked.values():
                future.cancel()
            self._answer_turn(None)
            self._inbox.put_nowait(None)

    async def _next_line(self) -> bytes:
        try:
            return await self._reader.readline()
        except (ConnectionError, ValueError):
            return b""

    async def _send(self, message: BaseModel) -> None:
        self._writer.write(to_line(message))
        await self._writer.drain()

    def _answer(self, command_id: str, applied: Applied) -> None:
        future = self._asked.get(command_id)
        if future is not None and not future.done():
            future.set_result(applied)

    def _answer_turn(self, turn: RankTurn | None) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(turn)

    def _fail(self, rejected: CommandRejected) -> None:
        future = self._asked.get(rejected.command_id or "")
        if future is not None and not future.done():
            error = RunError(
                f"the trainer rejected the command: {rejected.reason}",
                remedy="nothing was changed",
                rank=rejected.rank,
            )
            future.set_exception(error)


async def _connected(path: Path) -> socket.socket:
    until = time.monotonic() + OPEN_TIMEOUT_S
    while True:
        try:
            return unix_socket.connect(path, timeout_s=CONNECT_TIMEOUT_S)
        except OSError as error:
            if time.monotonic() > until:
                raise RunError(
                    f"no trainer listens at {path}: {error.strerror or error}",
                    remedy="a controller is started by its trainer; look at the trainer's log",
                ) from None
        await asyncio.sleep(_RETRY_S)
