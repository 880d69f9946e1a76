"""Where a rank's record is written while its run goes on, and the copy in the run folder.

SQLite's write-ahead log needs locks that many network file systems lack. There the record is kept
on the local disk, and copied to the run folder every minute and at the end.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rudder.memory.files import why_no_log
from rudder.memory.run.run_reader import run_file
from rudder.training.database_copy import copy_database
from rudder.training.errors import complain
from rudder.training.local_disk import local_folder_of

COPY_EVERY_S = 60.0
LAST_COPY_S = 3.0
"""The trainer waits for its controller for 5 s, with all else that a controller does last."""


class RecordPlace:
    """`path`: the file to write; `home`: the run's file, the same one where that can be written."""

    def __init__(self, run: Path, *, rank: int, mounts: Mapping[Path, str] | None = None) -> None:
        """Find a place; the local one begins with what the run folder has.

        mounts: types of file systems by mount point; default: this machine's.
        """
        self.path = self.home = run_file(run, rank=rank)
        self._copying: asyncio.Task[bool] | None = None
        self._next_copy = time.monotonic() + COPY_EVERY_S
        self._is_told = False
        if (reason := why_no_log(self.home.parent, mounts=mounts)) is not None:
            self._go_local(run, reason)

    def copy_now_and_then(self) -> None:
        """Begin to copy the record, if the last copy is a minute old; nobody waits for it."""
        if self.path == self.home or time.monotonic() < self._next_copy:
            return
        if self._copying is None or self._copying.done():
            self._next_copy = time.monotonic() + COPY_EVERY_S
            self._copying = asyncio.create_task(asyncio.to_thread(self._copy))

    async def close(self) -> None:
        """Copy the closed record, if that does not take too long, and remove the local file."""
        if self.path == self.home:
            return
        try:
            async with asyncio.timeout(LAST_COPY_S):
                if self._copying is not None:
                    await self._copying
                if await asyncio.to_thread(self._copy):
                    self._remove()
        except TimeoutError:
            self._tell("it takes too long")

    def _go_local(self, run: Path, reason: str) -> None:
        try:
            local = local_folder_of(run) / self.home.name
            if not local.exists() and self.home.exists():
                shutil.copyfile(self.home, local)
        except OSError:
            return  # the journal says why it cannot be written
        self.path = local
        complain(
            f"rudder: {self.home.parent} cannot hold an open record ({reason}); it is written to"
            f" {local} and copied every {COPY_EVERY_S:g} s and at the end"
        )

    def _remove(self) -> None:
        for path in (self.path, self.path.with_name(f".{self.path.name}.lock")):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # other trainers of this machine use it
            self.path.parent.rmdir()

    def _copy(self) -> bool:
        """Replace the run's file by what is committed now, as a whole; False if that fails."""
        snapshot = self.path.with_suffix(".copy")
        partial = self.home.with_name(f".{self.home.name}.partial")
        try:
            copy_database(self.path, snapshot)
            self.home.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(snapshot, partial)
            partial.replace(self.home)
            snapshot.unlink()
        except (OSError, sqlite3.Error) as error:
            self._tell(str(error))
            return False
        return True

    def _tell(self, reason: str) -> None:
        if not self._is_told:
            self._is_told = True
            complain(f"rudder: {self.path} cannot be copied to {self.home}: {reason}")
