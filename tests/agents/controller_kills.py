"""Controllers of a played trainer that are killed at random moments, and what is then on disk."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rudder.memory.run.audit import AuditRow, Head
from rudder.memory.run.run_reader import RunReader, run_file
from rudder.training.control.controller_process import (
    NICENESS,
    ControllerProcess,
    RestartBackoff,
    controller_command,
)
from rudder.training.errors import DataError
from rudder.training.settings import Applied
from rudder.training.steering_options import SteeringOptions
from tests.agents.played_trainer import ChangeStats, PlayedTrainer, Score
from tests.agents.warm_controller import WarmController

Moment = Literal["starting", "deciding", "commanding"]
_MOMENTS: tuple[Moment, ...] = ("starting", "deciding", "deciding", "commanding", "commanding")
_RESTARTS = RestartBackoff(first=0.5, longest=0.5, restarts=10**6)
"""As a first restart in a run: here each is one."""
_STARTING_S = {False: 2.5, True: 0.5}
"""The longest wait for a kill of one that starts, cold or warm: it is ready by then."""
_DECIDING_ROWS, _DECIDING_S, _BETWEEN_ROWS_S = 24, 3.0, 0.05
_COMMANDING_S, _ANSWER_S = 2.0, 0.004
_GIVE_UP_S = 120.0
_POLL_S = 0.01


@dataclass
class Toll:
    """What kills did to one run's record.

    rows: of the audit log at the end; lost: rows, windows and episodes that another process had
    read before a kill, and intents of commands that the trainer was given, that are gone; twice:
    commands that are applied twice in the log, or whose change was in force already; unlogged,
    invented: changes that the trainer made and the log does not have, and the other way round;
    recovery_s: from a kill to the next window in the file; waiting_s: how much of it the new
    controller waited for a core that others had.
    """

    kills: Counter[Moment] = field(default_factory=Counter)
    rows: int = 0
    windows: int = 0
    applied: int = 0
    lost: int = 0
    twice: int = 0
    unlogged: int = 0
    invented: int = 0
    broken: int = 0
    moved_away: int = 0
    recovery_s: list[float] = field(default_factory=list)
    waiting_s: list[float] = field(default_factory=list)

    @property
    def harm(self) -> int:
        """All that should not be."""
        counts = (self.lost, self.twice, self.unlogged, self.invented)
        return sum(counts) + self.broken + self.moved_away


@dataclass(frozen=True)
class _Seen:
    """What a file held at a moment, as another process saw it."""

    head: Head = field(default_factory=Head)
    windows: int = 0
    episodes: int = 0
    calls: int = 0


_Process = ControllerProcess | WarmController


class KilledControllers:
    """One run whose controllers are killed; `run` is the whole of it."""

    def __init__(
        self,
        folder: Path,
        *,
        score: Score,
        planner: str,
        draw: random.Random,
        is_warm: bool = False,
    ) -> None:
        """is_warm: controllers are forked with their imports made, else started by their command
        as a trainer does."""
        self._folder, self._file = folder, run_file(folder, rank=0)
        self._score, self._draw = score, draw
        self._options = SteeringOptions.model_validate(
            {"planner": planner, "seed": draw.randrange(2**31)}
        )
        self._is_warm, self._toll = is_warm, Toll()

    def run(self, kills: int) -> Toll:
        """Kill so often, let the last controller end in peace, and count."""
        with PlayedTrainer(self._folder, score=self._score) as trainer:
            process = self._start(trainer)
            try:
                self._kill_often(kills, trainer, process)
            except BaseException:
                process.close()
                raise
        process.close()
        self._count(trainer.stats)
        return self._toll

    def _start(self, trainer: PlayedTrainer) -> _Process:
        command = controller_command({0: trainer.path}, options=self._options, folder=self._folder)
        if self._is_warm:
            first = command.index("--trainer")
            arguments = command[first:]
            parent = arguments.index("--parent")
            return WarmController(
                (*arguments[:parent], *arguments[parent + 2 :]), pause_s=_RESTARTS.first
            )
        log = self._folder / "controller.log"
        return ControllerProcess(command, log=log, backoff=_RESTARTS)

    def _kill_often(self, kills: int, trainer: PlayedTrainer, process: _Process) -> None:
        killed_at, left = time.monotonic(), _Seen()
        for number in range(kills):
            moment = "deciding" if number == 0 else self._draw.choice(_MOMENTS)
            if moment == "starting":
                self._until(lambda: process.pid is not None)
                time.sleep(self._draw.uniform(0, _STARTING_S[self._is_warm]))
            else:
                self._recover(left, killed_at if number else None, process)
            seen = self._wait_for(moment, left, trainer)
            self._kill(process)
            killed_at = time.monotonic()
            self._toll.kills[moment] += 1
            left = self._look_at_what_is_left(seen, trainer.stats)
        self._recover(left, killed_at, process)

    def _wait_for(self, moment: Moment, before: _Seen, trainer: PlayedTrainer) -> _Seen:
        """Wait for the moment; what was seen last before it. before: when this life began."""
        if moment == "deciding":
            self._wait_for_rows(before.calls + self._draw.randint(0, _DECIDING_ROWS))
            time.sleep(self._draw.uniform(0, _BETWEEN_ROWS_S))
        seen = _look(self._file)
        if moment == "commanding":
            trainer.wait_for_command(_COMMANDING_S)
            time.sleep(self._draw.uniform(0, _ANSWER_S))
        return seen

    def _wait_for_rows(self, number: int) -> None:
        """Until the audit log has so many, or a planner that keeps things has written enough."""
        deadline = time.monotonic() + _DECIDING_S
        while _look(self._file).calls < number and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _kill(self, process: _Process) -> None:
        self._until(lambda: process.pid is not None)
        pid = process.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self._until(lambda: process.pid != pid)

    def _recover(self, left: _Seen, killed_at: float | None, process: _Process) -> None:
        """Until a window is in the file that a killed controller had not written."""
        self._until(lambda: process.pid is not None)
        _be_as_nice(process.pid)
        self._until(lambda: _look(self._file).windows > left.windows)
        if killed_at is not None:
            self._toll.recovery_s.append(time.monotonic() - killed_at)
            self._toll.waiting_s.append(_waited_s(process.pid))

    def _look_at_what_is_left(self, seen: _Seen, stats: ChangeStats) -> _Seen:
        """Check the file between two controllers; what is in it."""
        if not self._file.exists():
            return _Seen()
        now = _look(self._file)
        with RunReader(self._file) as reader:
            self._toll.broken += not reader.verify(known=(seen.head,)).holds
            rows = reader.audit()
        self._toll.lost += max(0, seen.head.number - now.head.number)
        self._toll.lost += max(0, seen.windows - now.windows)
        self._toll.lost += max(0, seen.episodes - now.episodes)
        self._toll.lost += len(_without_intent(stats, rows))
        return now

    def _count(self, stats: ChangeStats) -> None:
        toll = self._toll
        with RunReader(self._file) as reader:
            toll.broken += not reader.verify().holds
            rows = reader.audit()
        logged = [_command_of(row) for row in rows if row.outcome == "applied"]
        toll.rows, toll.applied = len(rows), len(stats.applied)
        toll.windows = _look(self._file).windows
        toll.twice = len(logged) - len(set(logged)) + stats.needless
        toll.twice += stats.changes - len(stats.applied)
        toll.unlogged = len(set(stats.applied) - set(logged))
        toll.invented = len(set(logged) - set(stats.applied))
        toll.moved_away = len(list(self._file.parent.glob("*.damaged-*")))

    def _until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _GIVE_UP_S
        while not holds():
            assert time.monotonic() < deadline, f"waited too long; see {self._folder}"
            time.sleep(_POLL_S)


def _be_as_nice(pid: int | None) -> None:
    """A campaign in the background has its controllers there, too."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid or 0, max(NICENESS, os.nice(0)))


def _waited_s(pid: int | None) -> float:
    """How long a process was ready to run and had no core."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def _look(path: Path) -> _Seen:
    """What the file holds now; nothing while it is being made."""
    try:
        with RunReader(path) as reader:
            head = reader.audit_head()
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            counts = [
                int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
                for table in ("windows", "episodes", "audit WHERE kind <> 'record'")
            ]
        finally:
            db.close()
    except (DataError, sqlite3.Error):
        return _Seen()
    return _Seen(head, *counts)


def _without_intent(stats: ChangeStats, rows: list[AuditRow]) -> list[str]:
    """Changes that reached the trainer, and that nobody had announced."""
    wanted = Counter(each.change.model_dump_json(exclude_defaults=True) for each in stats.told)
    intents = Counter(row.arguments for row in rows if row.kind == "intent")
    return [change for change, count in wanted.items() if intents[change] < count]


def _command_of(row: AuditRow) -> str:
    assert row.result is not None
    return Applied.model_validate_json(row.result).command_id
