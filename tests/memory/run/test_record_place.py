"""A record whose folder cannot hold SQLite's log is written locally, and copied."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rudder.memory.run import record_place
from rudder.memory.run.record_place import RecordPlace
from rudder.memory.run.run_reader import RunReader
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.sample import sample_workload


@pytest.fixture(autouse=True)
def _local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "local").mkdir()
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path / "local"))
    monkeypatch.setattr(record_place, "COPY_EVERY_S", 0.0)


def recorded(place: RecordPlace, run: Path) -> tuple[int, int]:
    """Sessions in the run's file while a controller writes, and after it has ended."""

    async def steer() -> int:
        journal = SqliteJournal.open(place.path, memory=None)
        journal.begin(sample_workload())
        place.copy_now_and_then()
        while not place.home.exists():
            await asyncio.sleep(0.01)
        with RunReader(place.home) as reader:
            seen = len(reader.workloads())
        journal.close()
        await place.close()
        return seen

    while_open = asyncio.run(steer())
    with RunReader(run / "steering" / "rank0.db") as reader:
        assert reader.verify().reason is None
        return while_open, len(reader.rows("SELECT * FROM sessions"))


def test_a_record_on_a_network_file_system_is_copied_and_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    mounts = {Path("/"): "ext4", run: "fuse.sshfs"}
    place = RecordPlace(run, rank=0, mounts=mounts)
    assert place.path.is_relative_to(tmp_path / "local")
    assert recorded(place, run) == (1, 1)
    assert "cannot hold an open record" in capfd.readouterr().err
    assert not list((tmp_path / "local").iterdir())
    again = RecordPlace(run, rank=0, mounts=mounts)
    assert recorded(again, run) == (1, 2)
    assert {path.name for path in (run / "steering").iterdir()} == {"rank0.db"}


def test_a_record_on_a_local_disk_is_written_where_it_stays(tmp_path: Path) -> None:
    place = RecordPlace(tmp_path / "run", rank=0)
    assert place.path == place.home == tmp_path / "run" / "steering" / "rank0.db"


def test_a_folder_that_takes_no_copy_keeps_the_local_record(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    place = RecordPlace(run, rank=0, mounts={run: "lustre"})
    SqliteJournal.open(place.path, memory=None).close()
    run.mkdir()
    (run / "steering").write_text("a file")
    asyncio.run(place.close())
    assert place.path.exists()
    assert f"{place.path} cannot be copied" in capfd.readouterr().err
