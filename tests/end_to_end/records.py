"""What must be true of the record of every steered run, however it ended."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from rudder.agents.controller.report import read_report
from rudder.memory.run.audit import AuditRow
from rudder.memory.run.run_reader import RunReader
from rudder.memory.run.verify_run import verify_run
from rudder.training.metrics import Window
from rudder.training.settings import Applied, BufferSettings


def check_records(folder: Path) -> int:
    """Check the files of all ranks of all runs below a folder; returns how many there are."""
    paths = sorted(folder.glob("**/steering/rank*[0-9].db"))
    for path in paths:
        check_record(path)
    for run in {path.parents[1] for path in paths}:  # killed early, it has not all files
        found = [each.found for each in verify_run(run)]
        assert all(each.holds or each.reason == "it is missing" for each in found), (run, found)
    return len(paths)


def check_record(path: Path) -> None:
    """The file verifies, episodes have no gap, and what the trainer changed are rows `applied`."""
    with RunReader(path) as reader:
        found = reader.verify()
        rows, episodes, windows = reader.audit(), reader.episodes(), reader.windows()
    assert found.holds, (path, found)
    assert [each.number for each in episodes] == list(range(len(episodes)))
    applied = [row for row in rows if row.outcome == "applied"]
    check_approvals(rows)
    assert is_within(settings_by_windows(windows), map(in_force, applied)), path
    report = read_report(path.parents[1], int(path.stem.removeprefix("rank")))
    if report is not None and has_one_session(path):
        effects = sum(row.kind == "effect" for row in applied)
        assert effects == report.counts.applied + report.counts.reverted, path
        assert len(episodes) == report.counts.decisions + report.counts.joined, path


def check_approvals(rows: Iterable[AuditRow]) -> None:
    """Before each change of a decision critic and guard have let it pass; a limit asks nobody."""
    said: dict[str | None, list[tuple[str, str | None]]] = {}
    for row in rows:
        if row.kind == "note" and row.tool in ("plan", "review"):
            said.setdefault(row.episode_id, []).append((row.agent, row.outcome))
        if row.kind == "intent" and row.tool == "apply_change":
            last = said.get(row.episode_id, [])[-2:]
            is_limit = last == [("planner", "answered")]
            assert is_limit or last == [("critic", "approved"), ("guard", "approved")], row


def settings_by_windows(windows: list[Window]) -> list[tuple[BufferSettings, int | None]]:
    """Those that the trainer went over to, one after the other, and the step from which on."""
    pairs = itertools.pairwise(windows)
    return [(b.settings, b.settings_since) for a, b in pairs if b.settings != a.settings]


def in_force(row: AuditRow) -> tuple[BufferSettings, int | None]:
    """The settings after a change, and the step from which on, by the log."""
    applied = Applied.model_validate_json(row.result or "{}")
    return applied.settings, applied.step


def is_within(some: Iterable[object], those: Iterable[object]) -> bool:
    """Whether all of `some` come among `those`, in their order."""
    rest = iter(those)
    return all(any(each == other for other in rest) for each in some)


def has_one_session(path: Path) -> bool:
    """Whether one controller saw the whole run, from its beginning to its end."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        began, ended = db.execute("SELECT count(*), count(ended_at) FROM sessions").fetchone()
    return bool(began == ended == 1)
