from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from rudder.memory.files import refuse_network
from rudder.memory.migrations import RUN_FILE
from rudder.memory.store import Store, open_reader
from rudder.training.errors import DataError, MachineError
from rudder.training.local_disk import file_system_of

MOUNTS = {
    Path("/"): "ext4",
    Path("/home/shared disk"): "nfs4",
    Path("/home/shared disk/scratch"): "xfs",
}


def rows_without_log(path: Path) -> int | None:
    """What the file alone holds; None: not even the tables."""
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM recalls").fetchone()[0])
        except sqlite3.OperationalError:
            return None


def test_the_deepest_mount_says_which_file_system_a_path_lies_on() -> None:
    where = {
        "/var/run.db": "ext4",
        "/home/shared disk/a/run.db": "nfs4",
        "/home/shared disk/scratch/run.db": "xfs",
    }
    assert {path: file_system_of(Path(path), mounts=MOUNTS) for path in where} == where
    assert file_system_of(Path("/proc/self")) == "proc"


def test_network_file_systems_are_refused_with_reason_and_remedy() -> None:
    with pytest.raises(MachineError, match=r"nfs4.*write-ahead log") as caught:
        refuse_network(Path("/home/shared disk/run.db"), mounts=MOUNTS)
    assert "local disk" in caught.value.remedy
    refuse_network(Path("/var/run.db"), mounts=MOUNTS)


def test_a_closed_file_is_one_plain_file_written_ahead_before(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "rank0.db", migrations=RUN_FILE)
    pragmas = ("journal_mode", "synchronous", "mmap_size")
    found = [store.db.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    assert found == ["wal", 1, 0]
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".rank0.db.lock", "rank0.db"]


def test_a_second_writer_is_refused_until_the_first_has_closed(tmp_path: Path) -> None:
    path = tmp_path / "rank0.db"
    store = Store.open(path, migrations=RUN_FILE)
    with pytest.raises(MachineError, match="another process"):
        Store.open(path, migrations=RUN_FILE)
    store.close()
    Store.open(path, migrations=RUN_FILE).close()


def test_a_reader_sees_what_is_written_meanwhile_and_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "rank0.db"
    store = Store.open(path, migrations=RUN_FILE)
    reader = open_reader(path, migrations=RUN_FILE)
    with store.transaction() as db:
        db.execute("INSERT INTO recalls (step, window, content) VALUES (1, 2, '[]')")
    assert reader.execute("SELECT step, window FROM recalls").fetchall() == [(1, 2)]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM recalls")
    reader.close()
    store.close()


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "rank0.db", migrations=RUN_FILE)
    with contextlib.suppress(KeyError), store.transaction() as db:
        db.execute("INSERT INTO recalls (step, window, content) VALUES (1, 2, '[]')")
        raise KeyError
    assert store.db.execute("SELECT count(*) FROM recalls").fetchone() == (0,)
    store.close()


def test_commits_leave_it_to_a_rest_to_bring_much_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rank0.db"
    store = Store.open(path, migrations=RUN_FILE)
    found = []
    for number in range(600):
        with store.transaction() as db:
            db.execute("INSERT INTO recalls (step, window, content) VALUES (1, 2, ?)", ["-" * 4096])
        if number % 200 == 199:
            store.rest()
            found.append(rows_without_log(path))
    assert found == [None, 400, 400]
    store.close()
    assert rows_without_log(path) == 600


def test_a_connection_is_refused_after_a_fork(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "rank0.db", migrations=RUN_FILE)
    child = os.fork()
    if child == 0:
        try:
            with store.transaction():
                os._exit(1)
        except MachineError:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.close()


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"x" * 99])
def test_a_file_that_is_no_database_is_moved_away_and_kept(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rank0.db"
    path.write_bytes(content)
    store = Store.open(path, migrations=RUN_FILE)
    store.close()
    assert store.damaged == tmp_path / "rank0.damaged-1.db"
    assert store.damaged.read_bytes() == content
    assert "rank0.damaged-1.db" in capsys.readouterr().err
    open_reader(path, migrations=RUN_FILE).close()


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rank0.db"
    store = Store.open(path, migrations=RUN_FILE)
    with store.transaction() as db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
            " VALUES ('run', '9999_from_the_future', '')"
        )
    store.close()
    for open_ in (Store.open, open_reader):
        with pytest.raises(DataError, match="later version"):
            open_(path, migrations=RUN_FILE)
    assert not list(tmp_path.glob("*damaged*"))


def test_readers_say_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("hello, this is no database" * 50)
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE mine (x)")
    for name, reason in (
        ("none", "not exist"),
        ("text", "not a database"),
        ("other", "is not the"),
    ):
        with pytest.raises(DataError, match=reason):
            open_reader(tmp_path / f"{name}.db", migrations=RUN_FILE)
