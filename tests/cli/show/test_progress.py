"""Commands do their work whoever reads them: real pipes, a full disk, closed streams."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rudder.cli.show.progress import counting, duration, say, stages
from rudder.memory.sample import write_sample_run
from rudder.training.progress import Counted

RUDDER = Path(sys.executable).parent / "rudder"
FULL = Path("/dev/full")


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash; the exit code is the command's, also of one in a pipe."""
    bash = ["bash", "-o", "pipefail", "-c", line.replace("rudder ", f"{RUDDER} ")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    return subprocess.run(
        bash, cwd=folder, capture_output=True, text=True, timeout=120, env=environment
    )


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("long") / "run"
    write_sample_run(run, num_episodes=400)
    return run


@pytest.fixture
def folder(tmp_path: Path, long_run: Path) -> Path:
    shutil.copytree(long_run, tmp_path / "run")
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


def test_quiet_tells_only_results_and_errors(folder: Path) -> None:
    done = shell("rudder prepare synthetic:tiny --out parts -q", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nodes" in done.stdout
    failed = shell("rudder prepare synthetic:none --out other -q", folder)
    assert [line.split(":")[0] for line in failed.stderr.splitlines()] == [
        "error", "  what to do",
    ]  # fmt: skip


def test_a_log_file_gets_every_line_with_its_time_and_the_error(folder: Path) -> None:
    for name in ("tiny", "none"):
        shell(f"rudder prepare synthetic:{name} --out parts -q --log-file log", folder)
    text = (folder / "log").read_text()
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d wrote /.*parts$", text, re.MULTILINE)
    assert re.search(r"^[-\d]+ [:\d]+ error: .*synthetic:none", text, re.MULTILINE)
    full = shell("rudder prepare synthetic:tiny --out parts --log-file /dev/full", folder)
    assert full.returncode == 0
    assert full.stderr.splitlines()[-1] == "/dev/full lacks lines: No space left on device"
    nowhere = shell("rudder prepare synthetic:tiny --log-file no/log", folder)
    assert nowhere.returncode == 2
    assert "log_file = 'no/log'" in nowhere.stderr


def test_verbose_shows_where_an_error_came_from(folder: Path) -> None:
    told = shell("rudder prepare synthetic:none -v", folder).stderr
    assert "Traceback" in told
    assert told.count("error: ") == 1
    assert shell("rudder prepare synthetic:none -v -q", folder).returncode == 2


def console_of(*, is_terminal: bool) -> Console:
    return Console(file=StringIO(), force_terminal=is_terminal, width=80)


def test_counting_tells_rate_and_time_left_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    with counting(
        "reading", total=100, unit="rows", console=console_of(is_terminal=False), clock=lambda: now
    ) as advance:
        for second in range(1, 26):
            now = float(second)
            advance(2)
    assert capsys.readouterr().err.splitlines() == [
        "reading: 20 of 100 rows, 2 a second, 40 s left",
        "reading: 40 of 100 rows, 2 a second, 30 s left",
    ]


def test_counting_draws_a_bar_on_a_terminal_with_lines_above_it() -> None:
    console, now = console_of(is_terminal=True), 0.0
    with counting("reading", total=9, unit="rows", console=console, clock=lambda: now) as advance:
        now = 30.0
        advance(3)
        say("a line")
    drawn = console.file.getvalue()  # type: ignore[attr-defined]  # StringIO
    assert "3 of 9 rows, 10 s each, 60 s left" in drawn
    assert "a line\n" in drawn


def test_a_stage_that_can_be_counted_is_told_with_rate_and_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    with stages(console=console_of(is_terminal=False), clock=lambda: now) as stage:
        stage.tell("cutting")
        for now in (100.0, 103.0, 106.0, 115.0):
            done = 1 + int(now - 100) // 3
            stage.count(Counted(what="writing", done=done, total=8, unit="parts"))
    assert capsys.readouterr().err.splitlines() == [
        "cutting",
        "writing: 1 of 8 parts",
        "writing: 6 of 8 parts, 3 s each, 6 s left",
    ]


def test_a_stage_is_drawn_as_a_bar_once_it_is_counted() -> None:
    console, now = console_of(is_terminal=True), 0.0
    with stages(console=console, clock=lambda: now) as stage:
        stage.tell("cutting")
        for done in (1, 3):
            now += 4.0
            stage.count(Counted(what="writing", done=done, total=8, unit="parts"))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]  # StringIO
    before, _, after = drawn.partition("writing")
    assert "\u2501" not in before
    assert "\u2501" in after
    assert "3 of 8 parts, 2 s each, 10 s left" in after


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (45, "45 s"), (600, "10 min"), (12_600, "3.5 h")]
)
def test_durations_have_the_unit_that_people_use(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_error_keeps_its_exit_code_without_standard_error(folder: Path) -> None:
    assert shell("rudder audit list nowhere 2> /dev/full", folder).returncode == 2
    assert shell("rudder audit list nowhere 2>&-", folder).returncode == 2


@pytest.mark.parametrize(("where", "exit_code"), [("| head -1", 0), ("> /dev/full", 4)])
def test_following_a_log_ends_with_its_reader(where: str, exit_code: int, folder: Path) -> None:
    done = shell(f"rudder audit tail run -f -n 1 {where}", folder)
    assert done.returncode == exit_code


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
