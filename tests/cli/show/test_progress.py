"""Commands do their work whoever reads them: real pipes, a full disk, closed streams."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rudder.memory.sample import write_sample_run

RUDDER = Path(sys.executable).parent / "rudder"
FULL = Path("/dev/full")


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; the exit code is the command's, also of one in a pipe."""
    bash = ["bash", "-o", "pipefail", "-c", line.replace("rudder ", f"{RUDDER} ")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    return subprocess.run(
        bash, cwd=folder, capture_output=True, text=True, timeout=120, env=environment
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sample_run(tmp_path / "run", num_episodes=400)
    return tmp_path


def test_a_reader_that_leaves_is_no_failure(folder: Path) -> None:
    done = shell("rudder audit list run --wide | head -1", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[:2] == ["seq", "time"]


def test_results_that_a_full_disk_does_not_take_are_a_failure_in_two_lines(folder: Path) -> None:
    done = shell("rudder audit list run > /dev/full", folder)
    assert done.returncode == 4
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "  what to do"]
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("where", ["> /dev/full 2>&1", ">&- 2>&-", "2> /dev/full | true"])
def test_work_is_done_though_nothing_can_be_told_of_it(where: str, folder: Path) -> None:
    done = shell(f"rudder prepare synthetic:tiny --out parts {where}", folder)
    assert done.returncode in (0, 4)
    assert "parts" in shell("rudder prepare synthetic:tiny --out parts", folder).stdout
    assert (folder / "parts" / "manifest.json").is_file()


def test_an_error_keeps_its_exit_code_without_standard_error(folder: Path) -> None:
    assert shell("rudder audit list nowhere 2> /dev/full", folder).returncode == 2
    assert shell("rudder audit list nowhere 2>&-", folder).returncode == 2


def test_following_a_log_ends_with_its_reader(folder: Path) -> None:
    done = shell("rudder audit tail run -f -n 1 | head -1", folder)
    assert done.returncode == 0


def test_a_reader_that_has_stopped_does_not_stop_progress(folder: Path) -> None:
    """Nobody empties the pipe of standard error, as after Ctrl-S."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while True:
        try:
            os.write(writing, bytes(4096))
        except BlockingIOError:
            break
    os.set_blocking(writing, True)
    done = subprocess.run(
        [RUDDER, "prepare", "synthetic:tiny", "--out", "parts"],
        cwd=folder, stdout=subprocess.PIPE, stderr=writing, timeout=120,
    )  # fmt: skip
    os.close(reading)
    os.close(writing)
    assert done.returncode == 0
    assert b"nodes" in done.stdout
