from __future__ import annotations

import io
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rudder.memory.past.experience import Added, Catalog, Experience
from rudder.memory.past.recall import Recall
from rudder.memory.past.transfer import export, fill, import_, merge
from rudder.memory.run.run_reader import LogOrigin, RunReader, run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.sample import sample_episode, sample_workload, write_sample_run
from rudder.training.buffer.hot_set import HotSet, hot_set_left
from rudder.training.errors import ConfigError, DataError


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    write_sample_run(tmp_path / "run", num_episodes=3)
    path = tmp_path / "memory.db"
    assert fill(path, tmp_path / "run") == Added(new=6)
    return path


def test_filling_twice_adds_nothing(memory: Path, tmp_path: Path) -> None:
    assert fill(memory, tmp_path / "run") == Added(known=6)
    with Catalog(memory) as catalog:
        assert [(each.episodes, each.trusted) for each in catalog.stats()] == [(6, 6)]


def test_the_memory_knows_where_each_log_ended(memory: Path, tmp_path: Path) -> None:
    path = run_file(tmp_path / "run", rank=1)
    with Catalog(memory) as catalog, RunReader(path) as reader:
        head = catalog.head(LogOrigin(sample_workload().run_key, 1))
        assert head == reader.audit_head()
        assert reader.verify(known=(head,)).holds


def test_a_memory_forgets_no_head_for_a_log_that_was_written_anew(
    memory: Path, tmp_path: Path
) -> None:
    origin = LogOrigin(sample_workload().run_key, 0)
    with Catalog(memory) as catalog:
        before = catalog.head(origin)
    shutil.rmtree(tmp_path / "run")
    write_sample_run(tmp_path / "run", num_episodes=4)
    fill(memory, tmp_path / "run")
    with Catalog(memory) as catalog, RunReader(run_file(tmp_path / "run", rank=0)) as reader:
        assert catalog.head(origin) == before != reader.audit_head()


def test_unfinished_episodes_wait_until_they_are(tmp_path: Path) -> None:
    work, path = sample_workload(), tmp_path / "run" / "steering" / "rank0.db"
    whole = sample_episode(0, workload=work)
    for episode, added in ((whole.model_copy(update={"outcome": None}), 0), (whole, 1)):
        journal = SqliteJournal.open(path, memory=None)
        journal.begin(work)
        journal.save(episode)
        journal.close()
        assert fill(tmp_path / "memory.db", tmp_path / "run").new == added


def test_a_damaged_rank_is_left_out_and_named(tmp_path: Path) -> None:
    paths = write_sample_run(tmp_path / "run", num_episodes=3)
    paths[0].write_bytes(b"no database" * 500)
    added = fill(tmp_path / "memory.db", tmp_path / "run")
    assert added.new == 3
    assert len(added.left_out) == 1
    assert str(paths[0]) in added.left_out[0]


def test_a_worn_episode_is_not_learned_from(tmp_path: Path) -> None:
    path = write_sample_run(tmp_path / "run", num_episodes=2)[0]
    with sqlite3.connect(path) as db:
        db.execute("UPDATE episodes SET content = replace(content, '\"network\"', '\"loader\"')")
    db.close()
    added = fill(tmp_path / "memory.db", tmp_path / "run")
    assert "checksum" in added.left_out[0]


def test_exported_episodes_come_in_untrusted_and_keep_their_origin(
    memory: Path, tmp_path: Path
) -> None:
    text = io.StringIO()
    assert export(memory, text) == 6
    other = tmp_path / "other.db"
    for added in (Added(new=6), Added(known=6)):
        text.seek(0)
        assert import_(other, text, name="x") == added
    with Catalog(memory) as catalog:
        origin, past = catalog.stats()[0].origin, list(catalog.episodes())
    with Catalog(other) as catalog:
        assert [(each.origin, each.trusted) for each in catalog.lines()] == [(origin, False)] * 6
        assert list(catalog.episodes(origin=origin)) == past
    with Experience(other) as experience:
        assert (experience.trust(origin), experience.trust(origin)) == (6, 0)
        with pytest.raises(ConfigError, match="nobody"):
            experience.trust("nobody")


def test_what_claims_to_be_from_here_is_not_trusted_for_it(memory: Path) -> None:
    text = io.StringIO()
    export(memory, text)
    text.seek(0)
    import_(memory, text, name="x")
    with Catalog(memory) as catalog:
        own, claimed = catalog.stats()
    assert (own.trusted, claimed.trusted) == (6, 0)
    assert claimed.origin == f"{own.origin}-imported"


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE origins SET is_own = 7",
        "UPDATE episodes SET trusted = 7",
        "UPDATE episodes SET ended_at = 'never'",
    ],
)
def test_a_damaged_row_is_named(memory: Path, harm: str) -> None:
    with closing(sqlite3.connect(memory)) as db, db:
        db.execute(harm)
    with Catalog(memory) as catalog, pytest.raises(DataError, match="is damaged"):
        assert (list(catalog.episodes()), catalog.lines(), catalog.stats()) == ([], [], [])


def test_a_bad_line_is_named_and_nothing_is_imported(memory: Path, tmp_path: Path) -> None:
    text = io.StringIO()
    export(memory, text)
    text.write('{"format": 1}\n')
    text.seek(0)
    with pytest.raises(DataError, match="x, line 7: origin"):
        import_(tmp_path / "other.db", text, name="x")
    with Catalog(tmp_path / "other.db") as catalog:
        assert catalog.lines() == []


def test_merge_takes_runs_files_and_other_memories(memory: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    assert merge(other, tmp_path / "run" / "steering" / "rank0.db") == Added(new=3)
    assert merge(other, tmp_path / "run") == Added(new=3, known=3)
    assert merge(other, memory) == Added(new=6)
    with Catalog(other) as catalog:
        assert [each.trusted for each in catalog.stats()] == [6, 0]
    with pytest.raises(DataError, match="rankN"):
        merge(other, tmp_path)


def test_prune_drops_the_oldest_and_their_keys(memory: Path) -> None:
    with Experience(memory) as experience:
        assert experience.prune(keep=4) == 2
        assert experience.prune(keep=0, origin="elsewhere") == 0
    with Catalog(memory) as catalog:
        assert [line.rank for line in catalog.lines()] == [1, 1, 1, 0]
    with sqlite3.connect(memory) as db:
        lost = "SELECT count(*) FROM recall_keys WHERE number NOT IN (SELECT number FROM episodes)"
        assert db.execute(lost).fetchone() == (0,)
    db.close()


def test_the_hot_set_of_the_last_run_on_the_same_work_is_kept(memory: Path, tmp_path: Path) -> None:
    work = sample_workload()
    for ids in ([5, 9, 2], [9, 4]):
        hot = HotSet(np.array(ids), np.ones(len(ids), dtype=np.float32))
        hot.save(hot_set_left(tmp_path / "run", rank=work.rank))
        fill(memory, tmp_path / "run")
    with closing(Recall(memory)) as recall:
        found = recall.hot_set(work)
        assert found is not None
        assert found.nodes.tolist() == [9, 4]
        assert found.uses.tolist() == [1.0, 1.0]
        assert recall.hot_set(work.model_copy(update={"batch_size": work.batch_size + 1})) is None


def test_a_damaged_hot_set_is_no_hot_set(memory: Path, tmp_path: Path) -> None:
    path = hot_set_left(tmp_path / "run", rank=0)
    path.parent.mkdir()
    path.write_bytes(b"no archive")
    assert not fill(memory, tmp_path / "run").left_out
    with closing(Recall(memory)) as recall:
        assert recall.hot_set(sample_workload()) is None
