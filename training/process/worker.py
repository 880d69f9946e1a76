"""Entry point of every server and trainer of a run: `python -m rudder.training.process.worker`.

Standard output carries events, one JSON object a line; all other output goes to standard error,
which is the log. A trainer waits for a line on standard input before it connects.
"""

from __future__ import annotations

import faulthandler
import io
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, Literal, NoReturn

from rudder.training.errors import MachineError, RudderError, RunError
from rudder.training.events import Event, Failed, PhaseEntered, Progress
from rudder.training.job import HOST_VARIABLE, JOB_VARIABLE, Job
from rudder.training.machine import as_machine_error, die_with
from rudder.training.manifest import read_contents
from rudder.training.process.program import program_of
from rudder.training.process.stop import ignore_stop_signals, note_stop_signals
from rudder.training.versions import required_versions

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


STACKS_SIGNAL = signal.SIGUSR2
"""Has a process write the stacks of all its threads to its log."""
LAUNCHER_VARIABLE = "RUDDER_LAUNCHER"
"""Environment variable with the process id of the launcher, where it is the parent."""
MAX_WAITING_PROGRESS = 64
"""A launcher that is behind by so many misses old ones: first those that tell no window."""
_SENDING_SECONDS = 0.05
UNUSED_BY_RUNS = ("pandas", "requests")
"""Libraries that `import dgl` imports and no run uses."""


@dataclass(frozen=True)
class ProcessPlace:
    """Which process of the run this one is."""

    role: Literal["server", "trainer"]
    rank: int
    host: int

    @classmethod
    def from_environment(cls) -> ProcessPlace:
        """Read DGL's and torch's variables."""
        host = int(os.environ[HOST_VARIABLE])
        if os.environ["DGL_ROLE"] == "server":
            return cls(role="server", rank=int(os.environ["DGL_SERVER_ID"]), host=host)
        return cls(role="trainer", rank=int(os.environ["RANK"]), host=host)


class EventPipe:
    """Sends events to the launcher. Any thread may emit, and none waits: a thread writes them.

    While the launcher does not read, the oldest progress is dropped once `MAX_WAITING_PROGRESS`
    wait. Nothing else is dropped; of that there are a few events an epoch.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._changed = threading.Condition()
        self._waiting: deque[Event] = deque()
        self._is_closed = False
        self._thread = threading.Thread(target=self._write, name="rudder-events", daemon=True)
        self._thread.start()

    @classmethod
    def in_place_of_stdout(cls) -> EventPipe:
        """Over what was standard output, which from now on is standard error."""
        pipe = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        return cls(pipe)

    def emit(self, event: Event) -> None:
        """Have one line written soon."""
        with self._changed:
            if isinstance(event, Progress):
                self._make_room()
            self._waiting.append(event)
            self._changed.notify()

    def close(self) -> None:
        """Return once all is written, or the launcher has gone."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _make_room(self) -> None:
        if len(self._waiting) < MAX_WAITING_PROGRESS:
            return
        progress = [each for each in self._waiting if isinstance(each, Progress)]
        if len(progress) >= MAX_WAITING_PROGRESS:
            signs = (each for each in progress if each.window is None)
            self._waiting.remove(next(signs, progress[0]))

    def _write(self) -> None:
        with suppress(OSError):  # nobody will read any more
            while (event := self._next()) is not None:
                line = memoryview(event.model_dump_json().encode() + b"\n")
                while line:
                    line = line[self._pipe.write(line) :]

    def _next(self) -> Event | None:
        with self._changed:
            while not (self._waiting or self._is_closed):
                self._changed.wait()
            return self._waiting.popleft() if self._waiting else None


def main() -> NoReturn:
    """Run the server or trainer that the environment names; never returns.

    Ends by `os._exit`: at interpreter exit DGL would wait for the other trainers for ever if this
    one has failed.
    """
    pipe = EventPipe.in_place_of_stdout()
    place = ProcessPlace.from_environment()
    exit_code = 0
    try:
        die_with(os.environ.get(LAUNCHER_VARIABLE))
        _prepare_process()
        pipe.emit(PhaseEntered(role=place.role, rank=place.rank, phase="starting"))
        _run(Job.read(Path(os.environ[JOB_VARIABLE])), place, pipe)
    except BaseException as error:
        failed = _failed(error, place)
        exit_code = failed.exit_code
        pipe.emit(failed)
        with suppress(OSError):  # the disk of the log may be full
            traceback.print_exc()
    pipe.close()
    with suppress(OSError):
        sys.stderr.flush()
        sys.stdout.flush()
    os._exit(exit_code)


class _ForgivingLog(io.FileIO):
    """Ignores that a disk is full or read-only, because DGL prints while it disconnects."""

    def write(self, content: ReadableBuffer, /) -> int:
        """Write, or drop the content if it cannot be written."""
        try:
            return super().write(content)
        except OSError:
            return memoryview(content).nbytes


def _prepare_process() -> None:
    log = io.BufferedWriter(_ForgivingLog(1, "wb", closefd=False))
    sys.stdout = io.TextIOWrapper(log, line_buffering=True)
    faulthandler.enable()
    faulthandler.register(STACKS_SIGNAL, all_threads=True)


def _run(job: Job, place: ProcessPlace, pipe: EventPipe) -> None:
    if place.role == "trainer":
        program_of(job).start_controllers(job, rank=place.rank)
    with _files_checked(job, place):
        _import_dgl()
    from rudder.training.wire.services import register_requests

    if job.shm_prefix:
        from rudder.training.process import loopback_shim

        prefix = f"{job.shm_prefix}{place.host}."
        loopback_shim.install(address=job.addresses[place.host], shm_prefix=prefix)
    register_requests()
    if place.role == "server":
        ignore_stop_signals()
        _serve(job, place, pipe)
    else:
        _train(job, place, pipe)


@contextmanager
def _files_checked(job: Job, place: ProcessPlace) -> Iterator[None]:
    """Compare the checksums of the files that this process will load, while the body runs.

    A host's first server loads them; the others share what it has loaded. Raises DataError.
    """
    loads_files = place.role == "server" and place.rank % job.config.servers_per_host == 0
    contents = read_contents(job.graph.directory) if loads_files else None
    if contents is None:
        yield
        return
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(contents.verify_content, job.graph.directory, part=place.host)
        yield
        check.result()


class _Postponed(ModuleType):
    """A module that is executed when something is taken from it.

    importlib's LazyLoader would execute it when somebody looks through `sys.modules`, as DGL does.
    """

    def __getattr__(self, name: str) -> Any:
        self.__class__ = ModuleType  # type: ignore[assignment]  # from now on it is a usual one
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(self)
        return getattr(self, name)


def import_later(name: str) -> None:
    """Have a library imported when it is first used, if it is installed and was not yet."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is not None:
        sys.modules[name] = module = module_from_spec(spec)
        module.__class__ = _Postponed


def _import_dgl() -> None:
    for name in UNUSED_BY_RUNS:
        import_later(name)
    try:
        import dgl.distributed
    except Exception as error:
        wanted = ", ".join(f"{name}{pin}" for name, pin in required_versions().items())
        raise MachineError(
            f"dgl cannot be imported: {type(error).__name__}: {error}",
            remedy=f"install versions that work together: {wanted} (see `rudder doctor`)",
        ) from error
    dgl.distributed.rpc.register_sig_handler = lambda: None  # it would abort at SIGTERM


def _serve(job: Job, place: ProcessPlace, pipe: EventPipe) -> None:
    from rudder.training.process.graph_server import serve

    def announce() -> None:
        pipe.emit(PhaseEntered(role="server", rank=place.rank, phase="connected"))

    serve(job, host=place.host, on_listening=announce)


def _train(job: Job, place: ProcessPlace, pipe: EventPipe) -> None:
    if not sys.stdin.readline():
        return  # the launcher gave up
    if job.config.checkpoint_every.unit != "none":
        note_stop_signals()
    program_of(job).run(job, rank=place.rank, emit=pipe.emit)
    _say_goodbye()


def _say_goodbye() -> None:
    """Disconnect from the servers as DGL does at exit, without its sleep of a second.

    DGL checks whether all messages are sent right after it has queued the last ones, and checks
    again a second later; after a short pause the first check succeeds.
    """
    from dgl.distributed import dist_context

    finalize = dist_context.finalize_client

    def finalize_after_a_pause() -> None:
        time.sleep(_SENDING_SECONDS)
        finalize()

    dist_context.finalize_client = finalize_after_a_pause
    dist_context.exit_client()


def _failed(error: BaseException, place: ProcessPlace) -> Failed:
    known = error if isinstance(error, RudderError) else as_machine_error(error)
    if known is None:
        text = f"{type(error).__name__}: {error}"
        remedy = "the log says where; `rudder doctor` checks the machine"
        known = RunError(text, remedy=remedy)
    return Failed(
        role=place.role,
        rank=place.rank,
        message=known.message,
        remedy=known.remedy,
        exit_code=known.exit_code,
    )


if __name__ == "__main__":
    main()
