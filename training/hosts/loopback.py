"""Hosts on one machine without namespaces: addresses in 127.0.0.0/8 and one shared /dev/shm.

Each run claims a pair of bytes x.y: its hosts are 127.x.y.1, 127.x.y.2, ... and its segments
begin with `rudder.x.y.`. A locked file of that name in /dev/shm is the claim; the kernel
unlocks it when the launcher ends, however it ends.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from rudder.training.errors import MachineError
from rudder.training.hosts.host import Cluster, Holder, Host, Network, reserve_ports

SHM_FOLDER = Path("/dev/shm")
_log = logging.getLogger(__name__)
_LOCK = re.compile(r"^rudder\.(\d+)\.(\d+)\.lock$")
_TRIES = 100


class Claim:
    """The right to 127.x.y.* and to the shared memory named `rudder.x.y.*`."""

    def __init__(self, x: int, y: int, *, folder: Path = SHM_FOLDER) -> None:
        self.prefix = f"rudder.{x}.{y}."
        self.network = f"127.{x}.{y}"
        self._folder = folder
        self._lock: int | None = None

    @property
    def pattern(self) -> Path:
        """What the paths of all segments begin with."""
        return self._folder / self.prefix

    def take(self, *, create: bool = True) -> bool:
        """Lock the claim; False if another run or another user has it."""
        path = self._folder / f"{self.prefix}lock"
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            lock = os.open(path, flags, 0o600)
        except (PermissionError, FileNotFoundError):
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
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

    def unlock(self) -> None:
        """Give up the claim, but leave its segments."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class LoopbackCluster(Cluster):
    """Hosts `host0`, `host1`, ... that share this machine's network and shared memory."""

    network: Network = "loopback"

    def _start(self, stack: ExitStack) -> tuple[Host, ...]:
        try:
            sweep()
            claim = _claim_any()
            stack.callback(claim.release)
            stack.callback(_janitor(claim).close)
        except OSError as error:
            raise MachineError(
                f"{SHM_FOLDER} cannot be written: {error.strerror}",
                remedy=f"mount a tmpfs on {SHM_FOLDER} and make it writable for this user",
            ) from None
        self.shm_prefix = claim.prefix
        return tuple(
            Host(
                name=f"host{index}",
                address=f"{claim.network}.{index + 1}",
                interface="lo",
                num_cores=self._cores_per_host,
            )
            for index in range(self._num_hosts)
        )

    def reserve_ports(self, count: int, *, first: int | None) -> int:
        """Ports that are free on the addresses of this run and on all interfaces."""
        addresses = [host.address for host in self.hosts]
        return reserve_ports(count, addresses=addresses, first=first)


def leftover_segments(folder: Path = SHM_FOLDER) -> list[Path]:
    """Shared memory of runs whose launcher has ended; `sweep` removes it."""
    left: list[Path] = []
    for claim in _dead_claims(folder):
        left.extend(claim.segments())
        claim.unlock()
    return left


def sweep(folder: Path = SHM_FOLDER) -> None:
    """Remove what killed runs of this user have left in shared memory."""
    for claim in _dead_claims(folder):
        with suppress(PermissionError):
            claim.release()
            _log.info("removed shared memory of a dead run (%s*)", claim.pattern)


def _dead_claims(folder: Path) -> Iterator[Claim]:
    for path in list(folder.glob("rudder.*.lock")):
        if match := _LOCK.match(path.name):
            claim = Claim(int(match.group(1)), int(match.group(2)), folder=folder)
            if claim.take(create=False):
                yield claim


def _claim_any() -> Claim:
    for _ in range(_TRIES):
        claim = Claim(random.randint(1, 254), random.randint(0, 255))
        if claim.take():
            return claim
    raise MachineError(
        f"no free address among 127.*.*.* after {_TRIES} tries",
        remedy="end other runs on this machine, or remove /dev/shm/rudder.*",
    )


def _janitor(claim: Claim) -> Holder:
    """Removes the segments when this process is killed, after its children are gone."""
    return Holder("true", str(claim.pattern), after='sleep 1; rm -f -- "$1"*')
