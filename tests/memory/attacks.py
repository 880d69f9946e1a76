"""Attacks on the record of a run of two ranks: edits, and files exchanged, set back or forged.

Each attack is verified twice, without and with an anchor. `FORGERIES` are those that only an anchor
can find, as all files together are what some run might have written.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rudder.memory.run.audit import HEAD_OF_RANK
from rudder.memory.run.heads import Anchor, current_heads
from rudder.memory.run.run_reader import run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.run.verify_run import verify_run
from rudder.memory.sample import (
    record,
    sample_episode,
    sample_window,
    sample_workload,
    write_sample_run,
)
from rudder.training.database_copy import copy_database
from tests.memory.edits import edit_log, log_content, without_triggers, write_hashes

_EPISODES = 5
FORGERIES = ("all set back", "another run", "all written anew")


@dataclass(frozen=True)
class Toll:
    """Attacks by kind, and those of them that were not found."""

    made: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    missed_with_anchor: Counter[str] = field(default_factory=Counter)


class Attacked:
    """A run, its earlier states, other runs, and a copy of it that is attacked."""

    def __init__(self, folder: Path, *, draw: random.Random) -> None:
        self.anchor, self.run, self._folder = folder / "anchor.jsonl", folder / "run", folder
        self._draw = draw
        write_sample_run(folder / "another", num_episodes=_EPISODES, run_key="0ther")
        write_sample_run(folder / "anew", num_episodes=_EPISODES, seed=1)
        self._write()
        self._whole = [log_content(run_file(self.run, rank=rank)) for rank in range(2)]
        Anchor(str(self.anchor)).append(current_heads(folder / "another"))

    def attack(self) -> str | None:
        """Attack the run, which is whole before; returns how, None if nothing was changed."""
        kind = self._draw.choice(["edit"] * 9 + list(_ATTACKS))
        for rank in range(2):
            self.take(rank, self._folder / "whole")
        if kind == "edit":
            rank = self._draw.randrange(2)
            kind = edit_log(run_file(self.run, rank=rank), draw=self._draw)
            is_edited = log_content(run_file(self.run, rank=rank)) != self._whole[rank]
            return kind if is_edited else None
        _ATTACKS[kind](self, self._draw)
        return kind

    def is_found(self, *, anchor: Path | None = None) -> bool:
        """Whether verify finds that something is wrong."""
        return not all(each.found.holds for each in verify_run(self.run, anchor=anchor))

    def take(self, rank: int, folder: Path, *, of_rank: int | None = None) -> None:
        """Put the file of another run or state in the place of a rank's."""
        source = run_file(folder, rank=rank if of_rank is None else of_rank)
        shutil.copy(source, run_file(self.run, rank=rank))

    def state(self, number: int) -> Path:
        """The run as it was after so many episodes."""
        return self._folder / "states" / str(number)

    def _write(self) -> None:
        """As two controllers do, which tell each other where their logs end."""
        works = [sample_workload(rank=rank) for rank in range(2)]
        journals = [
            SqliteJournal.open(run_file(self.run, rank=rank), memory=None) for rank in range(2)
        ]
        for journal, work in zip(journals, works, strict=True):
            journal.begin(work)
        for number in range(_EPISODES):
            for journal, work in zip(journals, works, strict=True):
                journal.add_window(sample_window(number, workload=work))
                record(journal, sample_episode(number, workload=work))
            self._keep(self.state(number))
            for journal, head in zip(
                journals, [each.head() for each in journals][::-1], strict=True
            ):
                assert head is not None
                journal.note_head(head)
        for journal in journals:
            journal.close()
        self._keep(self._folder / "whole")
        Anchor(str(self.anchor)).append(current_heads(self.run))

    def _keep(self, folder: Path) -> None:
        for rank in range(2):
            target = run_file(folder, rank=rank)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_database(run_file(self.run, rank=rank), target)


def campaign(count: int, *, folder: Path, draw: random.Random) -> Toll:
    """So many attacks that change something."""
    run, toll = Attacked(folder, draw=draw), Toll()
    while toll.made.total() < count:
        if (kind := run.attack()) is None:
            continue
        toll.made[kind] += 1
        toll.missed[kind] += not run.is_found()
        toll.missed_with_anchor[kind] += not run.is_found(anchor=run.anchor)
    return toll


def _forge_one(run: Attacked, draw: random.Random) -> None:
    """Change a row that the other rank knows, and all hashes from it on."""
    with without_triggers(run_file(run.run, rank=draw.randrange(2))) as connection:
        sql = "SELECT max(number) FROM audit WHERE tool = ?"
        last = connection.execute(sql, [HEAD_OF_RANK]).fetchone()[0]
        number = draw.randrange(1, last - 1)
        connection.execute("UPDATE audit SET step = step + 1 WHERE number = ?", [number])
        write_hashes(connection)


def _delete_file(run: Attacked, draw: random.Random) -> None:
    run_file(run.run, rank=draw.randrange(2)).unlink()


def _other_rank(run: Attacked, draw: random.Random) -> None:
    rank = draw.randrange(2)
    run.take(rank, run.state(_EPISODES - 1), of_rank=1 - rank)


def _swap_ranks(run: Attacked, draw: random.Random) -> None:
    for rank in range(2):
        run.take(rank, run.state(draw.randrange(_EPISODES)), of_rank=1 - rank)


def _one_of(name: str) -> Callable[[Attacked, random.Random], None]:
    """A rank's file is that of another run."""
    return lambda run, draw: run.take(draw.randrange(2), run.run.parent / name)


def _all_of(name: str) -> Callable[[Attacked, random.Random], None]:
    """All files are those of another run."""

    def attack(run: Attacked, draw: random.Random) -> None:
        del draw
        for rank in range(2):
            run.take(rank, run.run.parent / name)

    return attack


def _set_back(run: Attacked, draw: random.Random) -> None:
    """To a state after which the other rank has heard of it again."""
    run.take(draw.randrange(2), run.state(draw.randrange(_EPISODES - 1)))


def _set_all_back(run: Attacked, draw: random.Random) -> None:
    number = draw.randrange(_EPISODES)
    for rank in range(2):
        run.take(rank, run.state(number))


_ATTACKS: dict[str, Callable[[Attacked, random.Random], None]] = {
    "file deleted": _delete_file,
    "file of the other rank": _other_rank,
    "files swapped": _swap_ranks,
    "file of another run": _one_of("another"),
    "file written anew": _one_of("anew"),
    "file forged with all hashes": _forge_one,
    "file set back": _set_back,
    "all set back": _set_all_back,
    "another run": _all_of("another"),
    "all written anew": _all_of("anew"),
}
