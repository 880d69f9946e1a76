"""Training is done: what cannot be written down is told once, and all else is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rudder.agents.controller.report import (
    ENDED,
    SteeringReport,
    read_report,
    report_file,
    spare_report_file,
    write_report,
)
from rudder.cli.after_run import keep_record, steering_of
from rudder.memory.past.experience import Catalog
from rudder.memory.run.run_reader import RunReader, run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.sample import record, sample_episode, sample_workload, write_sample_run
from rudder.training.config import run_config
from rudder.training.control.service import ControlPort
from rudder.training.errors import MachineError
from rudder.training.metrics import Evaluation
from rudder.training.steering_options import default_memory
from tests.cli.show.test_summary import report, summary_of

FULL = Path("/dev/full")


def keep(run_dir: Path, memory: Path) -> None:
    keep_record(summary_of(report(0), report(1)), run_config(memory=memory), run_dir)


def not_kept(run_dir: Path, memory: Path) -> MachineError:
    with pytest.raises(MachineError) as raised:
        keep(run_dir, memory)
    return raised.value


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    write_sample_run(tmp_path / "run", num_episodes=2)
    return tmp_path / "run"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one mebibyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a disk of its own needs root and leave to mount")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, for `becomes_read_only`."""
    image, disk = tmp_path / "image", tmp_path / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(2**24)
    makes = (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(disk)])
    is_root = os.geteuid() == 0 and shutil.which("mkfs.ext4") is not None
    if not is_root or any(subprocess.run(make, capture_output=True).returncode for make in makes):
        pytest.skip("a disk of its own needs root, mkfs.ext4 and leave to mount")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def becomes_read_only(disk: Path) -> None:
    """As a disk does that has an error, whoever has files open."""
    subprocess.run(["mount", "-o", "remount,abort", str(disk)], check=True)


def fill_up(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def episodes_in(memory: Path) -> int:
    with Catalog(memory) as catalog:
        return sum(each.episodes for each in catalog.stats())


def test_summary_and_episodes_are_kept(run_dir: Path, tmp_path: Path) -> None:
    keep(run_dir, tmp_path / "memory.db")
    assert (run_dir / "summary.json").is_file()
    assert episodes_in(tmp_path / "memory.db") > 0


def test_a_summary_that_cannot_be_written_keeps_nothing_else_from_being_kept(
    run_dir: Path, tmp_path: Path
) -> None:
    (run_dir / ".summary.json.part").symlink_to(FULL)
    error = not_kept(run_dir, tmp_path / "memory.db")
    assert error.exit_code == 4
    assert error.message == (
        f"training is done, but its summary cannot be written to {run_dir}: No space left on device"
    )
    assert episodes_in(tmp_path / "memory.db") > 0


def test_a_memory_that_cannot_be_written_is_named_with_the_command_that_fills_it(
    run_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    memory = tmp_path / "data" / "memory.db"
    error = not_kept(run_dir, memory)
    assert str(memory) in error.message
    assert f"rudder memory merge {run_dir} --memory {memory}" in error.remedy
    assert (run_dir / "summary.json").is_file()


def test_a_home_that_cannot_be_written_costs_only_the_memory(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/proc/self/no")
    keep(run_dir, default_memory())
    assert (run_dir / "summary.json").is_file()
    told = " ".join(capfd.readouterr().err.split())
    assert "the run's episodes are not in /proc/self/no/rudder/memory.db" in told
    assert "--memory none" in told


def test_gaps_in_the_record_are_told(run_dir: Path, tmp_path: Path) -> None:
    write_report(SteeringReport(rank=1, planner="embedded", journal_is_writing=False), run_dir)
    error = not_kept(run_dir, tmp_path / "memory.db")
    assert "the record of steering has gaps (rank 1)" in error.message
    assert "controller1.log" in error.remedy


def test_a_model_that_could_not_be_written_is_told(run_dir: Path, tmp_path: Path) -> None:
    evaluation = Evaluation(epoch=1, scores=(), seconds=1.0, model_error="/full: No space left")
    summary = summary_of(report(0), report(1)).model_copy(update={"evaluations": (evaluation,)})
    with pytest.raises(MachineError, match="its model could not be written: /full: No space"):
        keep_record(summary, run_config(memory=tmp_path / "memory.db"), run_dir)


def test_a_report_that_finds_no_room_goes_over_the_old_one(tmp_path: Path) -> None:
    before = SteeringReport(rank=0, planner="embedded", last=sample_episode(0, workload=WORK))
    write_report(before, tmp_path)
    report_file(tmp_path, 0).with_suffix(".tmp").symlink_to(FULL)
    write_report(before.model_copy(update={"journal_is_writing": False}), tmp_path)
    found = read_report(tmp_path, 0)
    assert found is not None
    assert not found.journal_is_writing
    assert found.last is None


def test_a_disk_that_fills_up_is_told_once_and_what_was_written_verifies(
    small_disk: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_dir = small_disk / "run"
    journal = SqliteJournal.open(run_file(run_dir, rank=0), memory=None)
    journal.begin(WORK)
    said = SteeringReport(rank=0, planner="embedded")
    write_report(said, run_dir)
    record(journal, sample_episode(0, workload=WORK))
    fill_up(small_disk)
    for number in range(1, 200):
        record(journal, sample_episode(number, workload=WORK))
    write_report(said.model_copy(update={"journal_is_writing": journal.is_writing}), run_dir)
    journal.close()
    assert capsys.readouterr().err.count("cannot be written") == 1
    error = not_kept(run_dir, tmp_path / "memory.db")
    assert "its summary cannot be written" in error.message
    assert "has gaps (rank 0)" in error.message
    with RunReader(run_file(run_dir, rank=0)) as reader:
        assert reader.verify().holds
        assert len(reader.audit()) > 0


def test_a_disk_that_becomes_read_only_is_told_once_and_what_was_written_verifies(
    failing_disk: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_dir = failing_disk / "run"
    journal = SqliteJournal.open(run_file(run_dir, rank=0), memory=None)
    journal.begin(WORK)
    said = SteeringReport(rank=0, planner="embedded")
    write_report(said, run_dir)
    record(journal, sample_episode(0, workload=WORK))
    port = ControlPort(run_dir / "rank0.sock", rank=0)
    becomes_read_only(failing_disk)
    for number in range(1, 20):
        record(journal, sample_episode(number, workload=WORK))
    assert not journal.is_writing
    counts = said.counts.model_copy(update={"decisions": 19})
    last = {"journal_is_writing": False, "phase": ENDED, "counts": counts}
    write_report(said.model_copy(update=last), run_dir)
    journal.close()
    port.close()
    (told,) = steering_of(run_config(), run_dir)
    assert (told.decisions, told.source) == (19, "controller")
    assert capsys.readouterr().err.count("cannot be written") == 1
    error = not_kept(run_dir, tmp_path / "memory.db")
    assert error.exit_code == 4
    assert "its summary cannot be written" in error.message
    assert "has gaps (rank 0)" in error.message
    with RunReader(run_file(run_dir, rank=0)) as reader:
        assert reader.verify().holds
        assert len(reader.audit()) > 0


def test_a_read_only_disk_that_took_no_last_word_is_told(failing_disk: Path) -> None:
    run_dir = failing_disk / "run"
    write_report(SteeringReport(rank=0, planner="embedded"), run_dir)
    becomes_read_only(failing_disk)
    (told,) = steering_of(run_config(), run_dir)
    assert told.source == "cut short"


def test_a_report_outside_the_run_is_gone_when_the_run_has_been_told_of(
    failing_disk: Path, tmp_path: Path
) -> None:
    run_dir = failing_disk / "run"
    run_dir.mkdir()
    becomes_read_only(failing_disk)
    write_report(SteeringReport(rank=0, planner="embedded"), run_dir)
    assert spare_report_file(run_dir, 0).is_file()
    not_kept(run_dir, tmp_path / "memory.db")
    assert not spare_report_file(run_dir, 0).exists()


WORK = sample_workload()
