from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from rudder.memory.migrations import EXPERIENCE, RUN_FILE
from rudder.memory.past.experience import Catalog
from rudder.memory.past.recall import Recall
from rudder.memory.past.transfer import fill
from rudder.memory.run.run_reader import RunReader
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.sample import sample_episode, sample_workload
from rudder.memory.store import Store, open_reader
from tests.memory.released import FOLDER

WORK = sample_workload()


def test_every_step_of_the_schema_has_its_released_files() -> None:
    for name, migrations in (("run", RUN_FILE), ("memory", EXPERIENCE)):
        steps = [each.name[:4] for each in migrations.pending(Database(memory=True))]
        assert [path.stem for path in sorted(FOLDER.glob(f"{name}-*.db"))] == [
            f"{name}-{step}" for step in steps
        ]


@pytest.mark.parametrize("old", sorted(FOLDER.glob("run-*.db")), ids=lambda path: path.stem)
def test_a_released_run_is_read_and_gone_on_with(old: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(old, tmp_path / "rank0.db"))
    with RunReader(path) as reader:
        known = [(each.episode_id, each.observation.step) for each in reader.episodes()]
        assert known == [("5a4d91e0-0-0", 0), ("5a4d91e0-0-1", 48)]
        assert (reader.verify().holds, len(reader.windows(with_slices=True))) == (True, 6)
        begun = 1 if old.stem >= "run-0004" else None
        assert (reader.verify().chained_from, begun) == (begun, begun)
    journal = SqliteJournal.open(path, memory=None)
    journal.begin(WORK)
    assert (journal.is_writing, journal.next_number()) == (True, 2)
    journal.close()
    with RunReader(path) as reader:
        found = reader.verify()
    assert (found.reason, found.chained_from) == (None, begun or 9)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE windows SET hits = 0 WHERE number = 1")
    db.close()
    with RunReader(path) as reader:
        assert reader.verify().reason == "windows/1 is not as it was written"
    assert fill(tmp_path / "memory.db", path).new == 2


@pytest.mark.parametrize("old", sorted(FOLDER.glob("memory-*.db")), ids=lambda path: path.stem)
def test_a_released_memory_is_recalled_from(old: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(old, tmp_path / "memory.db"))
    with Catalog(path) as catalog:
        assert len(list(catalog.episodes())) == 4
    recall = Recall(path)
    episode = sample_episode(0, workload=WORK)
    found = recall.recall(episode.observation, WORK, limit=3)
    assert found[0].distance < found[1].distance
    assert found[0].episode.episode_id == episode.episode_id
    recall.close()


def test_a_reader_of_older_tables_sees_them_migrated_and_leaves_the_file_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rank0.db"
    Store.open(path, migrations=RUN_FILE).close()
    before = path.read_bytes()
    later = Migrations("run")
    for each in RUN_FILE.pending(Database(memory=True)):
        later(name=each.name)(each.fn)

    @later(name="0002_more")
    def _more(db: Database) -> None:
        db.execute("CREATE TABLE more (x INTEGER)")

    reader = open_reader(path, migrations=later)
    assert "more" in reader.table_names()
    reader.close()
    assert path.read_bytes() == before
    Store.open(path, migrations=later).close()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM more").fetchone() == (0,)
    db.close()
