from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from rudder.memory.journal import AuditEntry, Journal, ModelCall
from rudder.memory.past.transfer import fill
from rudder.memory.run.audit import AuditFilter
from rudder.memory.run.run_reader import RunReader
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.sample import (
    record,
    sample_entries,
    sample_episode,
    sample_window,
    sample_workload,
    write_sample_run,
)
from rudder.memory.store import Store

WORK = sample_workload()
INTENT = AuditEntry(kind="intent", call_id="i", agent="act", tool="apply_change", step=1)


def open_journal(folder: Path, *, memory: Path | None = None) -> SqliteJournal:
    journal = SqliteJournal.open(folder / "rank0.db", memory=memory)
    journal.begin(WORK)
    return journal


def test_both_journals_are_journals(tmp_path: Path) -> None:
    journals: list[Journal] = [Journal(), SqliteJournal.open(tmp_path / "a.db", memory=None)]
    for journal in journals:
        journal.begin(WORK)
        journal.add_window(sample_window(0, workload=WORK))
        assert journal.recall(sample_episode(0, workload=WORK).observation) == []
        assert (journal.unfinished(), journal.next_number()) == (None, 0)
        journal.close()
        journal.close()


def test_all_that_is_given_comes_back_equal(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    windows = [sample_window(index, workload=WORK) for index in range(3)]
    episodes = [sample_episode(number, workload=WORK) for number in range(3)]
    for window, episode in zip(windows, episodes, strict=True):
        journal.add_window(window)
        record(journal, episode)
    journal.close()
    with RunReader(tmp_path / "rank0.db") as reader:
        assert reader.windows(with_slices=True) == windows
        assert reader.episodes(finished=True) == episodes
        assert reader.episode(episodes[1].episode_id) == episodes[1]
        assert reader.workloads() == {WORK.run_key: WORK}
        assert len(reader.model_calls(episode=episodes[0])) == 1
        assert [row.call_id for row in reader.audit()] == [
            call_id
            for episode in episodes
            for call_id in (
                *(entry.call_id for entry in sample_entries(episode)),
                *[f"{episode.episode_id}-model"] * 2,
            )
        ]


def test_a_restarted_controller_goes_on_with_the_next_numbers(tmp_path: Path) -> None:
    for number in range(3):
        journal = open_journal(tmp_path)
        assert journal.next_number() == number
        record(journal, sample_episode(number, workload=WORK))
        journal.close()
    with RunReader(tmp_path / "rank0.db") as reader:
        assert len(reader.audit()) == 18
        counted: list[int] = []
        found = reader.verify(on_row=counted.append)
        assert found.holds
        assert len(counted) == found.rows + found.table_rows == reader.num_chained_rows()


def test_what_a_restart_must_settle_is_known_at_every_stage(tmp_path: Path) -> None:
    whole = sample_episode(0, workload=WORK)
    sent = whole.model_copy(update={"applied": None, "outcome": None})
    planned = sent.model_copy(update={"command_id": None})
    acked = whole.model_copy(update={"outcome": None})
    for known, expected in ((planned, planned), (sent, sent), (acked, acked), (whole, None)):
        journal = open_journal(tmp_path)
        journal.save(known)
        journal.close()
        journal = open_journal(tmp_path)
        assert journal.unfinished() == expected
        journal.close()


def test_an_answer_that_only_the_log_has_is_found(tmp_path: Path) -> None:
    whole = sample_episode(0, workload=WORK)
    journal = open_journal(tmp_path)
    journal.save(whole.model_copy(update={"applied": None, "outcome": None}))
    for entry in sample_entries(whole):
        journal.log(entry)
    assert journal.unfinished() == whole.model_copy(update={"outcome": None})
    journal.close()


def test_a_read_only_folder_is_said_once_and_everything_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "steering").write_text("a file where the folder should be")
    journal = SqliteJournal.open(tmp_path / "steering" / "rank0.db", memory=None)
    journal.begin(WORK)
    record(journal, sample_episode(0, workload=WORK))
    journal.close()
    assert (journal.is_writing, journal.next_number()) == (False, 0)
    assert capsys.readouterr().err.count("cannot be written") == 1


def store_of(journal: SqliteJournal) -> Store:
    assert journal._store is not None
    return journal._store


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another connection holds the lock that writers need."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.rollback()


def gaps_of(path: Path) -> list[dict[str, object]]:
    """What each row `gap` says was lost."""
    with RunReader(path) as reader:
        assert reader.verify().holds
        rows = reader.audit(AuditFilter(tool="gap"))
    return [json.loads(row.result or "")["lost"] for row in rows]


def test_a_short_lock_of_another_connection_is_waited_for(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    with locked(tmp_path / "rank0.db"):
        written: list[bool] = []
        writer = threading.Thread(target=lambda: written.append(journal.log(INTENT)))
        writer.start()
        time.sleep(0.2)
        assert not written
    writer.join()
    assert (written, journal.has_gaps) == ([True], False)
    journal.close()


def test_rows_that_a_long_lock_kept_out_are_counted_and_recording_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = open_journal(tmp_path)
    store_of(journal).wait_for_locks(is_patient=False)
    for _ in range(2):
        with locked(tmp_path / "rank0.db"):
            assert not journal.log(INTENT)
            journal.add_window(sample_window(0, workload=WORK))
            assert not journal.resume()
            assert not journal.is_writing
        assert journal.log(INTENT)
        assert (journal.is_writing, journal.has_gaps) == (True, True)
    journal.close()
    assert gaps_of(tmp_path / "rank0.db") == [{"intent": 1, "windows": 1}] * 2
    assert capsys.readouterr().err.count("cannot be written") == 1
    with RunReader(tmp_path / "rank0.db") as reader:
        assert reader.lost_windows() == [1, 1]
        assert [row.kind for row in reader.audit()] == ["note", "intent"] * 2


def test_a_full_disk_is_said_once_and_is_recorded_on_once_it_has_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = open_journal(tmp_path)
    record(journal, sample_episode(0, workload=WORK))
    db = store_of(journal).db
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    for index in range(200):
        journal.add_window(sample_window(index, workload=WORK))
    assert not journal.is_writing
    assert capsys.readouterr().err.count("disk is full") == 1
    db.execute("PRAGMA max_page_count = 1000000")
    journal.add_window(sample_window(200, workload=WORK))
    record(journal, sample_episode(1, workload=WORK))
    assert (journal.is_writing, journal.has_gaps) == (True, True)
    journal.close()
    with RunReader(tmp_path / "rank0.db") as reader:
        assert len(reader.episodes()) == 2
        kept = [window.index for window in reader.windows()]
    lost = sum(int(str(each["windows"])) for each in gaps_of(tmp_path / "rank0.db"))
    assert kept[-1] == 200
    assert len(kept) + lost == 201


def test_a_file_that_could_not_be_opened_is_opened_later(tmp_path: Path) -> None:
    blocker = tmp_path / "steering"
    blocker.write_text("a file where the folder should be")
    journal = SqliteJournal.open(blocker / "rank0.db", memory=None)
    journal.begin(WORK)
    assert not journal.log(INTENT)
    blocker.unlink()
    assert not journal.resume()
    journal._reopen_at = 0.0  # as seconds later
    assert journal.resume()
    journal.close()
    assert gaps_of(blocker / "rank0.db") == [{"intent": 1}]
    with RunReader(blocker / "rank0.db") as reader:
        assert reader.workloads() == {WORK.run_key: WORK}


def test_a_second_controller_of_a_rank_does_not_write(tmp_path: Path) -> None:
    first, second = open_journal(tmp_path), open_journal(tmp_path)
    assert (first.is_writing, second.is_writing) == (True, False)
    assert "another process" in str(second.failure)
    second.close()
    first.close()


def test_what_was_recalled_is_kept_for_replay(tmp_path: Path) -> None:
    write_sample_run(tmp_path / "run")
    memory = tmp_path / "memory.db"
    fill(memory, tmp_path / "run")
    journal = open_journal(tmp_path, memory=memory)
    episode = sample_episode(1, workload=WORK)
    recalled = journal.recall(episode.observation)
    journal.close()
    assert len(recalled) == 5
    with RunReader(tmp_path / "rank0.db") as reader:
        assert reader.recalled(episode) == recalled


def test_a_damaged_memory_is_said_and_there_is_no_past(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = tmp_path / "memory.db"
    memory.write_bytes(b"no database" * 500)
    journal = open_journal(tmp_path, memory=memory)
    assert journal.recall(sample_episode(0, workload=WORK).observation) == []
    assert journal.is_writing
    assert "goes on without the memory of earlier runs" in capsys.readouterr().err
    assert memory.read_bytes() == b"no database" * 500
    journal.close()


def test_planted_secrets_are_nowhere_in_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"RUDDER_LLM_KEY": "hunter2-hunter2", "MY_TOKEN": "top+secret/value"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    planted = " ".join([*secrets.values(), "sk-abcdefghijklmnop1234", "Bearer abc.def.ghi-jkl"])
    journal = open_journal(tmp_path)
    episode = sample_episode(0, workload=WORK)
    plan = episode.plan.model_copy(update={"reason": planted})
    journal.save(episode.model_copy(update={"plan": plan}))
    for entry in sample_entries(episode):
        journal.log(entry.model_copy(update={"arguments": planted, "error_type": planted}))
    journal.add_model_call(
        ModelCall(
            call_id="c", agent="planner", step=0, model=planted, messages=planted, answer=planted,
            latency_ms=1.0,
        )
    )  # fmt: skip
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    journal.close()
    written += (tmp_path / "rank0.db").read_bytes()
    assert written.count(b"[secret]") > 10
    for each in (*secrets.values(), "abcdefghijklmnop1234", "abc.def.ghi-jkl"):
        assert each.encode() not in written


def test_slices_stay_under_their_cap_and_the_oldest_go_first(tmp_path: Path) -> None:
    num_bytes = 800
    path = tmp_path / "rank0.db"
    journal = SqliteJournal.open(path, memory=None, max_slice_bytes=20 * num_bytes)
    journal.begin(WORK)
    for index in range(60):
        journal.add_window(sample_window(index, workload=WORK))
    journal.close()
    with sqlite3.connect(tmp_path / "rank0.db") as db:
        kept = [window for (window,) in db.execute("SELECT window FROM slices ORDER BY number")]
        total = db.execute("SELECT sum(num_bytes) FROM slices").fetchone()[0]
    db.close()
    assert 36 < kept[0] < 45
    assert kept == list(range(kept[0], 60))
    assert total <= 20 * num_bytes
