"""The agent of a host: starts and watches the processes of one run on its machine.

`python -m rudder.training.hosts.agent` speaks with the launcher over standard input and output, or
with `--head ADDRESS:PORT` over a connection that it opens. It ends its processes, and removes the
run's folder and shared memory, when the launcher says so, when the stream ends, and after 20 s
without a word. If the agent itself is killed, the kernel kills its processes.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import itertools
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import platformdirs
import psutil

from rudder.training.checksums import checksum
from rudder.training.errors import MachineError, RudderError
from rudder.training.hosts.host import Holder, reserve_ports
from rudder.training.hosts.host_process import is_stopped, signal_group
from rudder.training.hosts.local import claim_shared_memory
from rudder.training.hosts.messages import (
    CHUNK_BYTES,
    HEARTBEAT_SECONDS,
    LENGTHS,
    MAGIC,
    PARENT_VARIABLE,
    SILENCE_SECONDS,
    TOKEN_VARIABLE,
    Alive,
    Carry,
    Connect,
    Exited,
    FileSize,
    FindFiles,
    Finish,
    Found,
    Frame,
    FromHost,
    Goodbye,
    HostReport,
    Listen,
    Output,
    Ports,
    PutFile,
    RemoveFile,
    ReservePorts,
    Signal,
    Start,
    Started,
    Stored,
    Trouble,
    Write,
    lengths_of,
    to_host,
)
from rudder.training.hosts.mirror import LOGS, HostFolder, write_at
from rudder.training.local_disk import local_base, own_folder
from rudder.training.machine import available_memory_bytes, die_with, kills_for_memory
from rudder.training.process.worker import LAUNCHER_VARIABLE
from rudder.training.versions import installed_versions

_GRACE_SECONDS = 1.0
_LOG_SECONDS = 0.3
_MIRROR_SECONDS = 10.0
_CONNECT_SECONDS = 300.0
_ADDRESS_SECONDS = 5.0
_LONGEST_FOLDER = 60
"""Characters: a control socket's path below it must fit into 107."""


class _Child:
    """A process of the run."""

    def __init__(self, number: int, process: asyncio.subprocess.Process) -> None:
        self.number, self.process = number, process

    @property
    def is_stopped(self) -> bool:
        return is_stopped(self.process.pid)

    def signal(self, number: int) -> None:
        signal_group(self.process.pid, number)


class HostAgent:
    """Answers one launcher until either says goodbye."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, report: HostReport
    ) -> None:
        self._reader, self._writer, self._report = reader, writer, report
        self._folder = report.folder
        self._mirror = HostFolder(self._folder)
        self._mirroring = asyncio.Lock()
        self._children: dict[int, _Child] = {}
        self._sockets: dict[int, asyncio.StreamWriter] = {}
        self._listeners: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.was_heard = False
        """Whether the launcher has said anything."""

    async def serve(self) -> None:
        """Serve until the launcher has finished or is lost; then close it."""
        self._writer.write(MAGIC)
        await self._send(self._report)
        for work in (self._beat(), self._send_logs(), self._send_files()):
            self._spawn(work)
        async for frame in self._frames():
            if isinstance(frame.message, Finish):
                await self._end_children()
                await self._mirror_all()
                await self._send(Goodbye())
                return
            await self._answer(frame)

    async def close(self) -> None:
        """Leave nothing running."""
        await self._end_children()
        for listener in self._listeners:
            listener.close()
        for task in list(self._tasks):
            task.cancel()

    async def _frames(self) -> AsyncIterator[Frame]:
        """What the launcher says, until it is lost."""
        with suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    text, data = lengths_of(await self._reader.readexactly(LENGTHS.size))
                    content = await self._reader.readexactly(text + data)
                self.was_heard = True
                yield to_host(content[:text], content[text:])

    async def _answer(self, frame: Frame) -> None:
        try:
            await self._do(frame)
        except RudderError as error:
            await self._send(Trouble(message=error.message, remedy=error.remedy))
        except OSError as error:
            remedy = "make room or give write access there"
            await self._send(Trouble(message=str(error), remedy=remedy))

    async def _do(self, frame: Frame) -> None:
        match frame.message:
            case FindFiles(folder=folder, names=names):
                await self._send(Found(files=_found(folder, names)))
            case PutFile() as piece:
                if _put(piece, frame.data):
                    await self._send(Stored(path=piece.path))
            case ReservePorts(address=address, count=count, first=first):
                found = reserve_ports(count, addresses=[address], first=first)
                await self._send(Ports(first=found))
            case Start() as start:
                await self._start(start)
            case Write(number=number) if number in self._children:
                stream = self._children[number].process.stdin
                assert stream is not None
                stream.write(frame.data)
            case Signal(number=number, signal=which) if number in self._children:
                self._children[number].signal(which)
            case RemoveFile(path=path):
                path.unlink(missing_ok=True)
            case Listen(path=path):
                await self._listen(path)
            case Connect(number=number, path=path):
                await self._connect(number, path)
            case Carry(number=number) if number in self._sockets:
                self._carry(number, frame.data)
            case _:
                pass  # a ping, or a word to what has just ended

    async def _send(self, message: FromHost, data: bytes = b"") -> None:
        self._writer.write(Frame(message, data).encode())
        with suppress(ConnectionError):
            await self._writer.drain()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- processes ------------------------------------------------------------------------------

    async def _start(self, start: Start) -> None:
        log = self._folder / LOGS / start.log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *start.argv,
                env={**os.environ, **start.variables, LAUNCHER_VARIABLE: str(os.getpid())},
                cwd=self._folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stream,
                start_new_session=True,
            )
        child = self._children[start.number] = _Child(start.number, process)
        await self._send(Started(number=start.number, pid=process.pid))
        self._spawn(self._follow(child))

    async def _follow(self, child: _Child) -> None:
        assert child.process.stdout is not None
        while data := await child.process.stdout.read(CHUNK_BYTES):
            await self._send(Output(number=child.number), data)
        code = await child.process.wait()
        await self._mirror_logs()
        kills = kills_for_memory()
        await self._send(Exited(number=child.number, code=code, memory_kills=kills))

    async def _end_children(self) -> None:
        """SIGTERM, a short wait, SIGKILL; nothing that they have started writes any more."""
        running = [each for each in self._children.values() if each.process.returncode is None]
        controllers = [each for child in running for each in _started_by(child.process.pid)]
        for child in running:
            child.signal(signal.SIGTERM)
            child.signal(signal.SIGCONT)
        waits = [asyncio.ensure_future(child.process.wait()) for child in running]
        if waits:
            await asyncio.wait(waits, timeout=_GRACE_SECONDS)
        for child in self._children.values():
            child.signal(signal.SIGKILL)
        await asyncio.to_thread(_kill, controllers)
        await asyncio.gather(*waits)

    # -- sockets of trainers --------------------------------------------------------------------

    async def _connect(self, number: int, path: str) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(self._folder / path)
        except OSError:
            await self._send(Carry(number=number))
            return
        self._sockets[number] = writer
        self._spawn(self._pump(number, reader))

    async def _listen(self, path: str) -> None:
        """A socket of the launcher's, as it seems to this machine."""
        numbers = itertools.count(-1, -1)

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            number = next(numbers)
            self._sockets[number] = writer
            await self._send(Connect(number=number, path=path))
            await self._pump(number, reader)

        place = self._folder / path
        place.parent.mkdir(exist_ok=True)
        self._listeners.append(await asyncio.start_unix_server(accept, place))

    async def _pump(self, number: int, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK_BYTES):
                await self._send(Carry(number=number), data)
        await self._send(Carry(number=number))

    def _carry(self, number: int, data: bytes) -> None:
        if data:
            self._sockets[number].write(data)
        else:
            self._sockets.pop(number).close()

    # -- what goes to the launcher by itself ------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            stopped = tuple(each.number for each in self._children.values() if each.is_stopped)
            await self._send(Alive(memory_kills=kills_for_memory(), stopped=stopped))
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _send_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_SECONDS)
            await self._mirror_logs()

    async def _send_files(self) -> None:
        while True:
            await asyncio.sleep(_MIRROR_SECONDS)
            await self._send_frames(self._mirror.files())

    async def _mirror_logs(self) -> None:
        await self._send_frames(self._mirror.logs())

    async def _mirror_all(self) -> None:
        await self._mirror_logs()
        await self._send_frames(self._mirror.files())

    async def _send_frames(self, frames: Iterator[Frame]) -> None:
        """One at a time, read in a thread: the disk may be slow, and the agent must answer."""
        async with self._mirroring:
            while (frame := await asyncio.to_thread(next, frames, None)) is not None:
                self._writer.write(frame.encode())
                await self._writer.drain()


def _started_by(pid: int) -> list[psutil.Process]:
    """Also what has left the process group."""
    with suppress(psutil.Error):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def _kill(processes: Sequence[psutil.Process]) -> None:
    for each in processes:
        with suppress(psutil.Error):
            each.kill()
    psutil.wait_procs(processes, timeout=_GRACE_SECONDS)


def _found(folder: Path, names: tuple[str, ...]) -> tuple[FileSize, ...]:
    paths = ((name, folder / name) for name in names)
    return tuple(
        FileSize(path=name, size=path.stat().st_size) for name, path in paths if path.is_file()
    )


def _put(piece: PutFile, data: bytes) -> bool:
    """Write a piece; True if the file is whole. Raises MachineError if it is not what was sent."""
    piece.path.parent.mkdir(parents=True, exist_ok=True)
    partial = piece.path.with_name(f"{piece.path.name}.partial")
    write_at(partial, piece.offset, data)
    if piece.digest is None:
        return False
    if checksum(partial) != piece.digest:
        partial.unlink()
        raise MachineError(
            f"{piece.path} arrived damaged", remedy="start the run again; the file is sent anew"
        )
    partial.replace(piece.path)
    return True


# -- the machine --------------------------------------------------------------------------------


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A folder for one run on this machine's own disk; what dead runs have left is removed."""
    parent = _scratch() / f"rudder-{os.getuid()}"
    try:
        own_folder(parent)
    except OSError as error:
        remedy = "set TMPDIR to a folder of your own"
        raise MachineError(error.strerror or str(error), remedy=remedy) from None
    for old in parent.iterdir():
        if (lock := _lock(old)) is not None:
            shutil.rmtree(old, ignore_errors=True)
            os.close(lock)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix="run-"))
    lock = _lock(folder)
    janitor = Holder("true", str(folder), after='sleep 1; rm -rf -- "$1"')  # if this one is killed
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        janitor.close()
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a run's folder until the descriptor is closed; None if a living agent has it."""
    try:
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _scratch() -> Path:
    """The first place for temporary files whose path is short enough for sockets below it."""
    wishes = (local_base(), Path(tempfile.gettempdir()), Path("/tmp"))
    return next(wish for wish in wishes if len(str(wish)) <= _LONGEST_FOLDER)


def _report(folder: Path, shm_prefix: str) -> HostReport:
    return HostReport(
        name=socket.gethostname(),
        folder=folder,
        cache=Path(platformdirs.user_cache_dir("rudder")) / "parts",
        shm_prefix=shm_prefix,
        num_cores=len(os.sched_getaffinity(0)),
        memory_bytes=available_memory_bytes(),
        shm_bytes=shutil.disk_usage("/dev/shm").free,
        addresses=own_interfaces(),
        versions=installed_versions(),
    )


def own_interfaces() -> dict[str, tuple[str, ...]]:
    """This machine's IPv4 addresses by network interface."""
    return {
        name: tuple(each.address for each in found if each.family is socket.AF_INET)
        for name, found in psutil.net_if_addrs().items()
    }


async def _streams(head: str | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Standard input and output, or a connection to the launcher."""
    if head is not None:
        return await _connection(head)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # nothing else may write into the stream
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), pipe
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _connection(head: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a launcher that may not listen yet, opened with the run's token.

    head: ADDRESS:PORT, or ADDRESS,ADDRESS:PORT where one of the launcher's is to be tried after
    the other.
    """
    addresses, _, port = head.rpartition(":")
    until = asyncio.get_running_loop().time() + _CONNECT_SECONDS
    for address in itertools.cycle(addresses.split(",")):
        try:
            async with asyncio.timeout(_ADDRESS_SECONDS):
                reader, writer = await asyncio.open_connection(address.strip("[]"), int(port))
            break
        except (OSError, TimeoutError) as error:
            if asyncio.get_running_loop().time() > until:
                raise MachineError(
                    f"the launcher at {head} cannot be reached: {error}",
                    remedy="check its address and port, and that `rudder train` runs there",
                ) from None
            await asyncio.sleep(1.0)
    writer.write(f"{os.environ.get(TOKEN_VARIABLE, '')}\n".encode())
    return reader, writer


async def _main(head: str | None) -> None:
    reader, writer = await _streams(head)
    with ExitStack() as stack:
        folder = stack.enter_context(_own_folder())
        claim = stack.enter_context(claim_shared_memory())
        agent = HostAgent(reader, writer, _report(folder, claim.prefix))
        serving = asyncio.ensure_future(agent.serve())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, serving.cancel)
        try:
            with suppress(asyncio.CancelledError, ConnectionError):
                await serving
        finally:
            await agent.close()  # a second signal does not end it: Slurm and its srun send one each
        if head is not None and not agent.was_heard:
            raise MachineError(
                f"the launcher at {head} did not take this host",
                remedy=f"set {TOKEN_VARIABLE} to the same value on all hosts, and start no more"
                " hosts than the launcher has partitions",
            )


def run_agent(head: str | None) -> None:
    """Be the agent of this machine until the run is over; head: None for standard input."""
    if (parent := os.environ.get(PARENT_VARIABLE)) is not None:
        die_with(parent, number=signal.SIGTERM)
    asyncio.run(_main(head))


def main() -> None:
    """Be the agent that `rudder train` has started; errors go to standard error."""
    parser = argparse.ArgumentParser(prog="rudder host")
    parser.add_argument("--head", help="ADDRESS:PORT of the launcher; default: standard input")
    try:
        run_agent(parser.parse_args().head)
    except RudderError as error:
        sys.exit(f"rudder host: {error}")


if __name__ == "__main__":
    main()
