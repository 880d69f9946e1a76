"""Where logs end is written down while their run goes on, and once more when it has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rudder.cli.head_keeper import HeadKeeper
from rudder.memory.past.experience import Catalog
from rudder.memory.run.heads import SIGNED_FILE, read_anchor
from rudder.memory.run.run_reader import LogOrigin, run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.run.verify_run import verify_run
from rudder.memory.sample import record, sample_episode, sample_workload
from rudder.training.config import RunConfig, run_config
from rudder.training.errors import ConfigError, MachineError, RunError
from tests.waiting import until

WORK = sample_workload()
KEY = b"sixteen bytes and more"


def config_with(folder: Path, **options: Any) -> RunConfig:
    (folder / "key").write_bytes(KEY)
    return run_config(memory=folder / "memory.db", audit_key=folder / "key", **options)


def written(path: Path, *, least: int) -> list[int]:
    """The last row of rank 0 in each line, once there are so many lines."""

    def lines() -> list[int]:
        found = list(read_anchor(path)) if path.exists() else []
        return [line.heads[0].number for line in found] if len(found) >= least else []

    return until(lines)


def test_heads_are_written_as_logs_grow_and_last_of_all_at_the_end(tmp_path: Path) -> None:
    run, anchor = tmp_path / "run", tmp_path / "anchor"
    keeper = HeadKeeper(config_with(tmp_path, audit_anchor=str(anchor)), every_s=0.02)
    with keeper.watch(run):
        journal = SqliteJournal.open(run_file(run, rank=0), memory=None)
        journal.begin(WORK)
        assert written(anchor, least=1) == [1]
        record(journal, sample_episode(0, workload=WORK))
        written(anchor, least=2)
        journal.close()
    keeper.check()
    head = verify_run(run)[0].found.head
    assert written(anchor, least=2)[-1] == written(run / SIGNED_FILE, least=2)[-1] == head.number
    with Catalog(tmp_path / "memory.db") as catalog:
        known = catalog.head(LogOrigin(WORK.run_key, 0))
        assert known is not None
        assert 1 <= known.number <= head.number
    found = verify_run(run_file(run, rank=0), anchor=anchor, key=KEY)[0]
    assert (found.found.holds, found.is_signed, found.is_known_outside) == (True, True, True)


def test_a_run_that_fails_leaves_its_heads_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    keeper = HeadKeeper(config_with(tmp_path))
    journal = SqliteJournal.open(run_file(run, rank=0), memory=None)
    journal.begin(WORK)
    with pytest.raises(RunError), keeper.watch(run):
        raise RunError("a trainer failed", remedy="none")
    journal.close()
    assert written(run / SIGNED_FILE, least=1) == [1]
    with Catalog(tmp_path / "memory.db") as catalog:
        assert catalog.head(LogOrigin(WORK.run_key, 0)) is not None


def test_an_anchor_that_fails_is_told_at_once_and_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    keeper = HeadKeeper(config_with(tmp_path, audit_anchor="|exit 3"), every_s=0.02)
    journal = SqliteJournal.open(run_file(run, rank=0), memory=None)
    journal.begin(WORK)
    with keeper.watch(run):
        written(run / SIGNED_FILE, least=1)
        record(journal, sample_episode(0, workload=WORK))
        written(run / SIGNED_FILE, least=2)
    journal.close()
    with pytest.raises(MachineError, match=r"could not be written to \|exit 3"):
        keeper.check()
    assert capsys.readouterr().err.count("could not be written") == 1


def test_a_key_without_agents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without agents there is none"):
        HeadKeeper(config_with(tmp_path, controller="none"))
