"""Shared memory belongs to a run, and goes with its last process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rudder.training.errors import MachineError
from rudder.training.hosts.shared_memory import Claim, claim_of_job, leftovers, sweep

_PROCESS = """
import sys
from pathlib import Path
from rudder.training.hosts.shared_memory import claim_of_job
claim = claim_of_job({0: [0, "10.0.0.1", int(sys.argv[2]), 1]}, folder=Path(sys.argv[1]))
Path(f"{claim.pattern}feat").touch()
print(claim.prefix, flush=True)
sys.stdin.readline()
"""


def test_claim_excludes_others_until_it_is_released(tmp_path: Path) -> None:
    mine, theirs = (Claim("1.2", folder=tmp_path) for _ in range(2))
    assert mine.take()
    assert not theirs.take()
    mine.release()
    assert theirs.take()
    theirs.release()
    assert not list(tmp_path.iterdir())


def test_sweep_takes_the_dead_and_leaves_the_living(tmp_path: Path) -> None:
    dead, living = Claim("1.2", folder=tmp_path), Claim("3.4", folder=tmp_path)
    for claim in (dead, living):
        assert claim.take()
        (tmp_path / f"{claim.prefix}0.features").touch()
    dead.unlock()  # as the kernel does when a launcher is killed
    (left,) = leftovers(tmp_path)
    assert [path.name for path in left.segments] == ["rudder.1.2.0.features"]
    sweep(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["rudder.3.4.0.features", "rudder.3.4.lock"]
    living.release()


class Process:
    """A process of the job whose server listens on `port`."""

    def __init__(self, folder: Path, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROCESS, str(folder), str(port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.prefix = self._process.stdout.readline().strip()

    def end(self) -> None:
        self._process.communicate("\n")

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def test_processes_of_a_job_share_a_claim_and_the_last_one_removes_its_memory(
    tmp_path: Path,
) -> None:
    server, trainer, other = (Process(tmp_path, port) for port in (1, 1, 2))
    assert server.prefix == trainer.prefix != other.prefix
    server.end()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.glob("*feat")} == {
        f"{trainer.prefix}feat", f"{other.prefix}feat"
    }  # fmt: skip
    trainer.end()
    assert {path.name for path in tmp_path.glob("*feat")} == {f"{other.prefix}feat"}
    other.end()
    assert not list(tmp_path.iterdir())


def test_the_next_job_removes_what_a_killed_one_has_left(tmp_path: Path) -> None:
    dead = Process(tmp_path, 1)
    dead.kill()
    assert [str(each.pattern) for each in leftovers(tmp_path)] == [str(tmp_path / dead.prefix)]
    living = Process(tmp_path, 2)
    assert {path.name for path in tmp_path.glob("*feat")} == {f"{living.prefix}feat"}
    living.end()


def test_shared_memory_that_cannot_be_written_is_told_with_the_remedy() -> None:
    with pytest.raises(MachineError, match="/proc/none cannot be written"):
        claim_of_job({}, folder=Path("/proc/none"))
