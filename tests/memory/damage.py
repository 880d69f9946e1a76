"""Truncations and flipped bits of a database and its write-ahead log."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from rudder.memory.run.run_reader import RunReader, run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.sample import record, sample_episode, sample_window, sample_workload


@dataclass(frozen=True)
class Opening:
    """What came of opening a damaged file: `prefix` of what was written, or `moved away`."""

    how: str
    is_writing: bool
    holds: bool


def write_open_run(folder: Path, *, num_episodes: int = 6) -> Path:
    """A run's file as a killed controller leaves it, its write-ahead log not yet written back."""
    path = run_file(folder / "live", rank=0)
    work = sample_workload()
    journal = SqliteJournal.open(path, memory=None)
    journal.begin(work)
    for number in range(num_episodes):
        journal.add_window(sample_window(number, workload=work))
        record(journal, sample_episode(number, workload=work))
        if number == num_episodes // 2:
            journal._store.db.execute("PRAGMA wal_checkpoint(PASSIVE)")  # type: ignore[union-attr]
    copied = copy_of(path, folder / "killed")
    journal.close()
    return copied


def copy_of(path: Path, folder: Path) -> Path:
    """The database and its log, copied into a new folder."""
    folder.mkdir()
    for end in ("", "-wal"):
        shutil.copy(path.with_name(path.name + end), folder / (path.name + end))
    return folder / path.name


def damage(path: Path, *, draw: random.Random) -> str:
    """Truncate, or flip 1 to 64 bits of, the database or its log; returns what was done."""
    target = path.with_name(path.name + draw.choice(["", "-wal"]))
    size = target.stat().st_size
    if draw.random() < 0.4:
        os.truncate(target, draw.randrange(size))
        return f"truncate {target.name}"
    content = bytearray(target.read_bytes())
    for _ in range(draw.choice([1, 1, 4, 64])):
        content[draw.randrange(size)] ^= 1 << draw.randrange(8)
    target.write_bytes(content)
    return f"flip {target.name}"


def open_damaged(path: Path, *, hashes: list[str]) -> Opening:
    """Go on as a controller does; `hashes`: of the audit rows that were written."""
    work = sample_workload()
    journal = SqliteJournal.open(path, memory=None)
    journal.begin(work)
    journal.unfinished()
    record(journal, sample_episode(journal.next_number(), workload=work))
    is_writing = journal.is_writing
    journal.close()
    is_moved_away = any(path.parent.glob(f"{path.stem}.damaged-*"))
    with RunReader(path) as reader:
        found = [row.hash for row in reader.audit()][:-6]
        is_prefix = is_moved_away or found == hashes[: len(found)]
        holds = reader.verify().holds and is_prefix
    return Opening("moved away" if is_moved_away else "prefix", is_writing, holds)
