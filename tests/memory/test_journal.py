from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from rudder.memory.journal import Journal, NullJournal
from rudder.memory.model_calls import ModelCall
from rudder.memory.past.transfer import fill
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

WORK = sample_workload()


def open_journal(folder: Path, *, memory: Path | None = None) -> SqliteJournal:
    journal = SqliteJournal.open(folder / "rank0.db", memory=memory)
    journal.begin(WORK)
    return journal


def test_both_journals_are_journals(tmp_path: Path) -> None:
    journals: list[Journal] = [NullJournal(), SqliteJournal.open(tmp_path / "a.db", memory=None)]
    for journal in journals:
        journal.begin(WORK)
        journal.add_window(sample_window(0, workload=WORK))
        assert journal.recall(sample_episode(0, workload=WORK).observation) == []
        assert (journal.unfinished(), journal.next_number()) == ((None, None), 0)
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
        assert len(reader.model_calls(episode_id=episodes[0].episode_id)) == 1
        assert [row.call_id for row in reader.audit()] == [
            entry.call_id for episode in episodes for entry in sample_entries(episode)
        ]


def test_a_restarted_controller_goes_on_with_the_next_numbers(tmp_path: Path) -> None:
    for number in range(3):
        journal = open_journal(tmp_path)
        assert journal.next_number() == number
        record(journal, sample_episode(number, workload=WORK))
        journal.close()
    with RunReader(tmp_path / "rank0.db") as reader:
        assert [row.number for row in reader.audit()] == list(range(1, 13))
        assert reader.verify().holds


def test_what_a_restart_must_settle_is_known_at_every_stage(tmp_path: Path) -> None:
    whole = sample_episode(0, workload=WORK)
    sent = whole.model_copy(update={"applied": None, "outcome": None})
    planned = sent.model_copy(update={"command_id": None})
    acked = whole.model_copy(update={"outcome": None})
    done = (whole.plan.change, whole.applied)
    for known, expected in (
        (planned, (planned, None)),
        (sent, (sent, None)),
        (acked, (acked, done)),
        (whole, (None, None)),
    ):
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
    episode, change = journal.unfinished()
    assert (episode, change) == (
        whole.model_copy(update={"outcome": None}),
        (whole.plan.change, whole.applied),
    )
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


def test_a_full_disk_is_said_once_and_what_was_written_before_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = open_journal(tmp_path)
    record(journal, sample_episode(0, workload=WORK))
    store = journal._store
    assert store is not None
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages}")
    for index in range(200):
        journal.add_window(sample_window(index, workload=WORK))
    assert not journal.is_writing
    assert capsys.readouterr().err.count("disk is full") == 1
    journal.close()
    with RunReader(tmp_path / "rank0.db") as reader:
        assert reader.verify().holds
        assert len(reader.episodes()) == 1


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
    assert "goes on without memory" in capsys.readouterr().err
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
    from rudder.memory.run.slices import Slices

    journal = open_journal(tmp_path)
    assert journal._store is not None
    journal.add_window(sample_window(0, workload=WORK))
    num_bytes = journal._store.db.execute("SELECT num_bytes FROM slices").fetchone()[0]
    journal._slices = Slices(journal._store.db, max_bytes=20 * num_bytes)
    for index in range(1, 60):
        journal.add_window(sample_window(index, workload=WORK))
    journal.close()
    with sqlite3.connect(tmp_path / "rank0.db") as db:
        kept = [window for (window,) in db.execute("SELECT window FROM slices ORDER BY number")]
        total = db.execute("SELECT sum(num_bytes) FROM slices").fetchone()[0]
    db.close()
    assert 36 < kept[0] < 45
    assert kept == list(range(kept[0], 60))
    assert total <= 20 * num_bytes
