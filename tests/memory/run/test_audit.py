from __future__ import annotations

import itertools
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rudder.cli.show.audit import attributes
from rudder.memory.journal import AuditEntry
from rudder.memory.migrations import RUN_FILE
from rudder.memory.run.audit import AuditFilter, AuditLog, Head
from rudder.memory.run.run_reader import RunReader
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.run.verify import Verification, verify
from rudder.memory.sample import sample_entries, sample_episode, sample_workload
from rudder.memory.store import Redaction, Store

ENTRY = AuditEntry(kind="call", call_id="c", agent="planner", tool="read", step=3)
TEXT = st.none() | st.text(max_size=40)
ENTRIES = st.builds(
    AuditEntry,
    kind=st.sampled_from(["call", "result", "note"]),
    call_id=st.text(max_size=10),
    agent=st.text(max_size=10),
    tool=st.text(max_size=10),
    step=st.integers(-(2**63), 2**63 - 1),
    arguments=TEXT,
    result=TEXT,
    outcome=st.none() | st.sampled_from(["staged", "applied"]),
    input_tokens=st.none() | st.integers(0, 2**40),
    latency_ms=st.none() | st.floats(),
)


def new_log(path: Path) -> tuple[Store, AuditLog]:
    store = Store.open(path, migrations=RUN_FILE)
    return store, AuditLog(store, run_key="ab", rank=1, redaction=Redaction({}))


@given(st.lists(ENTRIES, max_size=12))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example([AuditEntry(kind="call", call_id="", agent="", tool="", step=0, latency_ms=-0.0)])
def test_whatever_is_appended_comes_back_and_verifies(
    tmp_path: Path, entries: list[AuditEntry]
) -> None:
    path = tmp_path / "rank0.db"
    path.unlink(missing_ok=True)
    store, log = new_log(path)
    assert [log.append(entry) for entry in entries] == list(range(1, len(entries) + 1))
    store.close()
    with RunReader(path) as reader:
        assert [row.result for row in reader.audit()] == [entry.result for entry in entries]
        assert (reader.verify().holds, reader.verify().rows) == (True, len(entries))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET step = 4",
        "DELETE FROM audit",
        "UPDATE audit_head SET number = 0",
        "DELETE FROM audit_head",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit",
    ],
)
def test_the_file_itself_refuses_changes(tmp_path: Path, statement: str) -> None:
    store, log = new_log(tmp_path / "rank0.db")
    log.append(ENTRY)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        store.db.execute(statement)
    store.close()


def test_verify_names_the_first_broken_row_and_why(tmp_path: Path) -> None:
    store, log = new_log(tmp_path / "rank0.db")
    for _ in range(9):
        log.append(ENTRY)
    trigger = store.db.execute("SELECT sql FROM sqlite_master WHERE name = 'audit_refuses_update'")
    sql = trigger.fetchone()[0]
    store.db.execute("DROP TRIGGER audit_refuses_update")
    assert verify(store.db).reason == "not as it was made: trigger audit_refuses_update"
    store.db.execute("UPDATE audit SET tool = 'write' WHERE number IN (4, 7)")
    store.db.execute(sql)
    found = verify(store.db)
    assert (found.rows, found.broken_row) == (3, 4)
    assert found.reason == "its content does not have its hash"
    assert verify(store.db, last=2).holds
    store.close()


def test_a_log_that_was_written_anew_does_not_have_the_end_that_is_known(tmp_path: Path) -> None:
    heads = []
    for name in ("one", "other"):
        store, log = new_log(tmp_path / f"{name}.db")
        log.append(ENTRY.model_copy(update={"tool": name}))
        found = verify(store.db)
        heads.append(found.head)
        assert verify(store.db, known=[found.head]).holds
        assert not verify(store.db, known=[Head(5, found.head.hash)]).holds
        assert verify(store.db, known=heads[:1]).holds == (name == "one")
        store.close()


def test_a_log_that_grows_while_it_is_verified_holds(tmp_path: Path) -> None:
    path = tmp_path / "rank0.db"
    journal = SqliteJournal.open(path, memory=None)
    journal.begin(sample_workload())
    done = threading.Event()

    def write() -> None:
        entries = itertools.cycle(sample_entries(sample_episode(0, workload=sample_workload())))
        while not done.is_set():
            journal.log(next(entries))

    writer = threading.Thread(target=write)
    writer.start()
    found: list[Verification] = []
    with RunReader(path) as reader:
        while not found or (found[-1].holds and found[-1].rows < 200):
            found.append(reader.verify())
    done.set()
    writer.join()
    journal.close()
    assert {each.reason for each in found} == {None}


def test_an_effect_without_its_intent_is_pointed_out(tmp_path: Path) -> None:
    store, log = new_log(tmp_path / "rank0.db")
    call, result, intent, effect = sample_entries(sample_episode(0, workload=sample_workload()))
    for entry in (call, result, intent, effect, effect.model_copy(update={"call_id": "other"})):
        log.append(entry)
    assert (verify(store.db).holds, verify(store.db).unannounced) == (True, (5,))
    store.close()


def test_filters_pick_rows(tmp_path: Path) -> None:
    path = tmp_path / "rank0.db"
    store, log = new_log(path)
    for step, agent in ((1, "planner"), (2, "act"), (3, "act"), (4, "critic")):
        log.append(ENTRY.model_copy(update={"step": step, "agent": agent}))
    store.close()
    with RunReader(path) as reader:

        def steps(only: AuditFilter, last: int | None = None) -> list[int]:
            return [row.step for row in reader.audit(only, last=last)]

        assert steps(AuditFilter(agent="act")) == [2, 3]
        assert steps(AuditFilter(first_step=2, last_step=3)) == [2, 3]
        assert steps(AuditFilter(rank=1, run_key="ab"), last=3) == [2, 3, 4]
        assert steps(AuditFilter(rank=0)) == []
        assert steps(AuditFilter(until="2000")) == []
        assert [row.step for row in reader.audit(after=3)] == [4]


def test_telemetry_uses_the_conventional_names_and_leaves_out_what_is_absent(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rank0.db"
    store, log = new_log(path)
    log.append(ENTRY.model_copy(update={"arguments": "{}", "input_tokens": 5}))
    store.close()
    with RunReader(path) as reader:
        named = attributes(reader.audit()[0])
    assert named["gen_ai.tool.name"] == "read"
    assert named["gen_ai.tool.call.arguments"] == "{}"
    assert named["gen_ai.usage.input_tokens"] == 5
    assert named["rudder.step"] == 3
    assert "error.type" not in named
