"""What verify says of a damaged run: which row, and why."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from rudder.memory.run.audit import Head
from rudder.memory.run.heads import SIGNED_FILE, Anchor, current_heads
from rudder.memory.run.run_reader import LogOrigin, RunReader, run_file
from rudder.memory.run.verify import Verification, verify
from rudder.memory.run.verify_run import Finding, verify_run
from rudder.memory.sample import write_sample_run
from rudder.memory.store import LaterVersionError
from tests.memory.edits import without_triggers, write_hashes

KEY = b"sixteen bytes and more"
ROWS = 28
"""Of each rank's log."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_sample_run(tmp_path / "run", num_episodes=2)
    return tmp_path / "run"


@pytest.fixture
def log(run: Path) -> Path:
    return run_file(run, rank=0)


def edit(path: Path, *statements: str, hashes: bool = False) -> None:
    with without_triggers(path) as connection:
        for statement in statements:
            connection.execute(statement)
        if hashes:
            write_hashes(connection)


def verified(path: Path, *, known: Sequence[Head] = (), last: int | None = None) -> Verification:
    with RunReader(path) as reader:
        return reader.read(lambda: verify(reader.db, known=known, last=last))


def test_of_a_whole_log_all_is_told_that_its_rows_say(log: Path) -> None:
    found = verified(log)
    assert (found.rows, found.table_rows, found.chained_from) == (ROWS, 19, 1)
    assert (found.run_key, found.rank, found.num_ranks) == ("5a4d91e0", 0, 2)
    assert [(head.rank, head.number) for head in found.heads] == [(1, 25)]
    assert (found.head.number, found.broken_row, found.unannounced) == (ROWS, None, ())


@pytest.mark.parametrize(
    ("statement", "row", "reason", "verified_rows"),
    [
        ("DELETE FROM audit WHERE number = 5", 5, "missing; row 6 comes next", 4),
        ("UPDATE audit SET previous_hash = 'x' WHERE number = 5", 5,
         "does not follow from the row before", 4),
        ("UPDATE audit SET tool = CAST(x'ff' AS TEXT) WHERE number = 5", 5, "cannot be read: ", 4),
        ("UPDATE audit SET latency_ms = 9e999 WHERE number = 5", 5,
         "its content does not have its hash", 4),
        ("DELETE FROM audit WHERE number > 26", 27,
         "the log ends at row 26, but 28 were written", 26),
        ("UPDATE audit_head SET number = 27", 28,
         "the log ends at row 28, but 27 were written", 28),
        ("UPDATE audit_head SET hash = 'x'", 28,
         "the last row is not the one that was written", 28),
        ("DELETE FROM audit_head", None, "the log's end cannot be read: ", 28),
        ("UPDATE windows SET first_step = 7 WHERE number = 2", None,
         "windows/2 is not as it was written", 28),
        ("DELETE FROM windows WHERE number = 2", None, "windows/2 is missing", 28),
        ("DELETE FROM windows WHERE number > 2", None, "windows/3 is missing", 28),
        ("UPDATE episodes SET episode_id = 'x' WHERE episode_id LIKE '%-0-0'", None,
         "episodes/x was never written", 28),
        ("CREATE TRIGGER mine BEFORE DELETE ON audit BEGIN SELECT 1; END", None,
         "not as it was made: trigger mine", 0),
    ],
)  # fmt: skip
def test_the_first_that_is_broken_is_named(
    statement: str, row: int | None, reason: str, verified_rows: int, log: Path
) -> None:
    edit(log, statement)
    found = verified(log)
    assert (found.broken_row, found.holds) == (row, False)
    assert str(found.reason).startswith(reason)
    assert found.rows == verified_rows


@pytest.mark.parametrize(("last", "rows"), [(2, 2), (27, 27), (28, 28), (99, 28)])
def test_of_the_last_rows_so_many_are_looked_at_and_no_other_tables(
    last: int, rows: int, log: Path
) -> None:
    edit(log, "DELETE FROM windows")
    found = verified(log, last=last)
    assert (found.holds, found.rows, found.table_rows) == (True, rows, 0)


def test_the_row_before_the_last_ones_must_be_there(log: Path) -> None:
    edit(log, "DELETE FROM audit WHERE number = 26")
    found = verified(log, last=2)
    assert (found.broken_row, found.reason) == (26, "missing")


def test_an_end_that_others_know_is_compared(log: Path) -> None:
    end = verified(log).head
    for known, row, reason in (
        (Head(), None, None),
        (end, None, None),
        (Head(28, "x", keeper="me"), 28, "it is not the row that me knows"),
        (Head(29, "x", keeper="me"), 29, "me knows it, but the log ends at row 28 ("),
    ):
        found = verified(log, known=[known])
        assert (found.broken_row, str(found.reason)[:40]) == (row, str(reason)[:40])


def test_rows_that_a_version_without_digests_wrote_are_not_checked(log: Path) -> None:
    edit(log, "UPDATE audit SET digests = NULL", "DELETE FROM windows", hashes=True)
    found = verified(log)
    assert (found.holds, found.table_rows, found.chained_from) == (True, 0, None)


def reasons(findings: Sequence[Finding]) -> dict[str, str]:
    return {each.file.name: str(each.found.reason) for each in findings if not each.found.holds}


def test_a_file_that_is_missing_of_another_rank_or_of_another_run_is_named(
    run: Path, tmp_path: Path
) -> None:
    write_sample_run(tmp_path / "other", num_episodes=2, run_key="0ther")
    one, two = run_file(run, rank=0), run_file(run, rank=1)
    assert reasons(verify_run(run)) == {}
    shutil.move(two, tmp_path / "kept")
    assert reasons(verify_run(run)) == {"rank1.db": "it is missing"}
    shutil.copy(one, two)
    assert reasons(verify_run(run)) == {"rank1.db": "it is the record of rank 0"}
    assert reasons(verify_run(two)) == {}
    shutil.copy(run_file(tmp_path / "other", rank=1), two)
    assert reasons(verify_run(run)) == {"run": "its files are of 2 runs"}
    two.write_text("no record")
    assert set(reasons(verify_run(run))) == {"rank1.db"}


def test_an_anchor_knows_a_folder_in_which_another_run_is_now(run: Path, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    Anchor(str(anchor)).append(current_heads(run))
    assert {each.is_known_outside for each in verify_run(run, anchor=anchor)} == {True}
    shutil.rmtree(run)
    write_sample_run(run, num_episodes=2, run_key="0ther")
    found = reasons(verify_run(run, anchor=anchor))
    assert found["run"] == "the anchor knows it with another run, 5a4d91e0, in it"
    assert found["rank0.db"] == f"{anchor} has no line about it"
    assert reasons(verify_run(run)) == {}


def test_who_knows_a_log_is_told_with_the_last_row_that_each_knows(run: Path, log: Path) -> None:
    early, end = Head(3, row_of(log, 3), keeper="a memory"), verified(log).head
    later = Head(end.number, end.hash, keeper="a memory")

    def known(origin: LogOrigin) -> Sequence[Head]:
        return (later, early) if origin.rank == 0 else ()

    first, second = verify_run(run, known=known)
    assert {(head.keeper, head.number) for head in first.known_to} == {
        ("rank 1's log", 25), ("a memory", ROWS),
    }  # fmt: skip
    assert (first.is_known_outside, first.unknown_rows) == (True, 0)
    assert (second.is_known_outside, second.unknown_rows, second.is_signed) == (False, 3, False)
    (alone,) = verify_run(log)
    assert alone.unknown_rows == ROWS


def row_of(log: Path, number: int) -> str:
    with RunReader(log) as reader:
        sql = "SELECT hash FROM audit WHERE number = ?"
        return str(reader.db.conn.execute(sql, [number]).fetchone()[0])


def test_what_another_rank_or_a_memory_knows_of_a_log_that_was_written_anew_is_broken(
    run: Path, log: Path
) -> None:
    edit(log, "UPDATE audit SET step = 99 WHERE number = 6", hashes=True)
    found = verify_run(run)[0].found
    assert (found.broken_row, found.reason) == (25, "it is not the row that rank 1's log knows")
    assert reasons(verify_run(log)) == {}


def test_signed_lines_lie_in_the_folder_of_the_run_that_a_file_is_of(run: Path, log: Path) -> None:
    Anchor(str(run / SIGNED_FILE)).append([line.signed(KEY) for line in current_heads(run)])
    for key, is_signed, reason in (
        (KEY, True, None),
        (None, False, None),
        (KEY + b"!", False, f"{run / SIGNED_FILE} has a line about it without this key's"
         " signature"),
    ):  # fmt: skip
        (found,) = verify_run(log, key=key)
        assert (found.is_signed, found.found.reason) == (is_signed, reason)


def test_a_file_of_a_later_version_is_no_damage(run: Path, log: Path) -> None:
    edit(
        log,
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
        " VALUES ('run', '9999_from_the_future', '')",
    )
    with pytest.raises(LaterVersionError):
        verify_run(run)
