"""A writer that is killed at a random moment, and what it was told was on disk."""

from __future__ import annotations

import itertools
import os
import random
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from rudder.memory.run.run_reader import RunReader
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.sample import sample_entries, sample_episode, sample_window, sample_workload


@dataclass(frozen=True)
class Survival:
    """After one kill: audit rows and episodes acknowledged, those lost of them, rows that are in
    the log twice, whether the chain holds, and the seconds until a new controller has gone on."""

    acknowledged: int
    lost: int
    twice: int
    holds: bool
    moved_away: int
    recovery_s: float


def kill_one(path: Path, *, draw: random.Random) -> Survival:
    """Let a process write to `path`, kill it with SIGKILL, look, and go on as a new controller."""
    acknowledged = _write_until_killed(
        path, seconds=draw.uniform(0.002, 0.06), while_opening=draw.random() < 0.2
    )
    started = time.perf_counter()
    journal = SqliteJournal.open(path, memory=None)
    journal.begin(sample_workload())
    journal.unfinished()
    recovery_s = time.perf_counter() - started
    is_writing = journal.is_writing
    journal.close()
    with RunReader(path) as reader:
        logged = [row.call_id for row in reader.audit()]
        kept = set(logged)
        twice = len(logged) - len(kept)
        kept |= {episode.episode_id for episode in reader.episodes()}
        holds = reader.verify().holds and is_writing
    return Survival(
        acknowledged=len(acknowledged),
        lost=len(acknowledged - kept),
        twice=twice,
        holds=holds,
        moved_away=len(list(path.parent.glob("*.damaged-*"))),
        recovery_s=recovery_s,
    )


def _write_until_killed(path: Path, *, seconds: float, while_opening: bool) -> set[str]:
    """Names that the writer acknowledged, one a line, once each was on disk."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _write_forever(path, writing)
        finally:
            os._exit(1)
    os.close(writing)
    if not while_opening:
        select.select([reading], [], [], 30)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as answers:
        lines = answers.read().split(b"\n")
    return {line.decode() for line in lines[:-1]}


def _write_forever(path: Path, acknowledge: int) -> None:
    journal = SqliteJournal.open(path, memory=None)
    work = sample_workload()
    journal.begin(work)
    first = journal.next_number()
    for number in itertools.count(first):
        episode = sample_episode(number, workload=work)
        journal.add_window(sample_window(number, workload=work))
        for entry in sample_entries(episode):
            name = f"{entry.call_id}/{entry.kind}"
            if number == first and journal.has_logged(name):
                continue  # the killed writer did that
            journal.log(entry.model_copy(update={"call_id": name}))
            os.write(acknowledge, name.encode() + b"\n")
        journal.save(episode)
        os.write(acknowledge, episode.episode_id.encode() + b"\n")
