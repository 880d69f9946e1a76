"""A way out of the hosts' own networks: a Unix-domain socket that leads to one TCP address.

Local hosts live in network namespaces from which only each other is reached. A path is seen from
all of them, so a controller that asks a language model speaks to a socket file, and this relay,
which runs with the launcher, carries the bytes on to the model's address and to no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import stat
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 64 * 2**10


class Relay:
    """Serves `path` from a thread of its own, within its `with` block."""

    def __init__(self, path: Path, *, host: str, port: int) -> None:
        """Bytes that come at `path` go to `host`:`port`, and back."""
        self._path, self._host, self._port = path, host, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="rudder-relay", daemon=True)
        self._listening = threading.Event()
        self._error: OSError | None = None

    def __enter__(self) -> Self:
        """Listen; raises OSError where the path cannot be bound."""
        self._thread.start()
        self._listening.wait()
        if self._error is not None:
            raise self._error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection and remove the socket file."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            server = self._loop.run_until_complete(
                asyncio.start_unix_server(self._carry, self._path)
            )
            self._path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        except OSError as error:
            self._error = error
        finally:
            self._listening.set()
        if self._error is None:
            self._loop.run_forever()
            server.close()
            self._end_all()
        self._loop.close()

    def _end_all(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _carry(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            there, out = await asyncio.open_connection(self._host, self._port)
        except OSError:
            back.close()  # to whoever asked, as if nobody listened
            return
        try:
            await asyncio.gather(_copy(here, out), _copy(there, back))
        finally:
            out.close()
            back.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await source.read(_CHUNK_BYTES):
            target.write(chunk)
            await target.drain()
    with contextlib.suppress(OSError, RuntimeError):
        if target.can_write_eof():
            target.write_eof()
