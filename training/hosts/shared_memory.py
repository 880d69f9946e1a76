"""Who owns which shared memory in /dev/shm, so that runs at once do not disturb each other.

DGL names shared memory after the tensors alone. Rudder puts `rudder.<claim>.` before the names. A
locked file `rudder.<claim>.lock` is the claim. The kernel unlocks it when its last owner ends,
however that ends; what nobody owns is removed when the next run starts.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rudder.training.errors import MachineError

SHM_FOLDER = Path("/dev/shm")
_LOCK = re.compile(r"^rudder\.(.+)\.lock$")
_RETRY_S = 0.01
_LONGEST_WAIT_S = 10.0
_log = logging.getLogger(__name__)


class Claim:
    """The right to the shared memory named `rudder.<name>.*`."""

    def __init__(self, name: str, *, folder: Path = SHM_FOLDER) -> None:
        self.name = name
        self.prefix = f"rudder.{name}."
        self._folder = folder
        self._lock: int | None = None

    @property
    def pattern(self) -> Path:
        """What the paths of all segments begin with."""
        return self._folder / self.prefix

    def take(self, *, create: bool = True, shared: bool = False) -> bool:
        """Lock the claim; False if another run or another user has it.

        shared: with other processes of the same job, which take it shared, too.
        """
        path = self._folder / f"{self.prefix}lock"
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            lock = os.open(path, flags, 0o600)
        except (PermissionError, FileNotFoundError):
            return False
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            is_in_place = os.fstat(lock).st_ino == path.stat().st_ino
        except OSError:
            is_in_place = False
        if not is_in_place:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def segments(self) -> Iterator[Path]:
        """Shared memory of this claim."""
        for path in self._folder.glob(f"{self.prefix}*"):
            if path.suffix != ".lock":
                yield path

    def release(self) -> None:
        """Remove the segments, then the lock."""
        for path in [*self.segments(), self._folder / f"{self.prefix}lock"]:
            path.unlink(missing_ok=True)
        self.unlock()

    def leave(self) -> None:
        """Give up a shared claim; the last process of the job removes the segments."""
        if self._lock is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.unlock()
        else:
            self.release()

    def unlock(self) -> None:
        """Give up the claim, but leave its segments."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def claim_of_job(servers: Mapping[int, Sequence[object]], *, folder: Path = SHM_FOLDER) -> Claim:
    """The claim that all processes of a job on this machine share, until this process ends.

    servers: the addresses and ports that DGL has read, which no other job of the machine has while
    this one lives. What dead runs of this user have left is removed. Raises MachineError.
    """
    text = repr((os.getuid(), sorted(map(str, servers.values()))))
    claim = Claim(hashlib.sha256(text.encode()).hexdigest()[:16], folder=folder)
    if not os.access(folder, os.W_OK):
        raise MachineError(
            f"{folder} cannot be written",
            remedy=f"mount a tmpfs on {folder} and make it writable for this user",
        )
    sweep(folder)
    until = time.monotonic() + _LONGEST_WAIT_S
    while not claim.take(shared=True):  # a process that starts looks whether the claim is dead
        if time.monotonic() > until:
            raise MachineError(
                f"{claim.pattern}lock stays locked", remedy="see who holds it with `lsof`"
            )
        time.sleep(_RETRY_S)
    atexit.register(claim.leave)
    return claim


@dataclass(frozen=True)
class Leftovers:
    """Segments of a run that has ended; pattern: what their paths begin with."""

    pattern: Path
    segments: tuple[Path, ...]


def leftovers(folder: Path = SHM_FOLDER) -> list[Leftovers]:
    """Shared memory of runs that have ended; `sweep` removes it."""
    found = []
    for claim in _dead_claims(folder):
        found.append(Leftovers(claim.pattern, tuple(claim.segments())))
        claim.unlock()
    return [each for each in found if each.segments]


def sweep(folder: Path = SHM_FOLDER) -> None:
    """Remove what killed runs of this user have left in shared memory."""
    for claim in _dead_claims(folder):
        with suppress(PermissionError):
            claim.release()
            _log.info("removed shared memory of a dead run (%s*)", claim.pattern)


def _dead_claims(folder: Path) -> Iterator[Claim]:
    """Claims of this user whose owners have all ended; they are taken."""
    for path in list(folder.glob("rudder.*.lock")):
        if match := _LOCK.match(path.name):
            claim = Claim(match.group(1), folder=folder)
            if claim.take(create=False):
                yield claim
