"""What a run measured over time: a series of points for each rank, and marks for what happened.

Windows are added up in SQL, so that a run of any length gives a few hundred points within seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rudder.memory.records import Episode
from rudder.memory.run.audit import AuditFilter, AuditRow
from rudder.memory.run.run_reader import RunReader
from rudder.training.errors import DataError
from rudder.training.metrics import EpochMetrics, OwnerTraffic, RankReport, Seconds
from rudder.training.settings import BufferSettings
from rudder.training.workload import Workload

MarkKind = Literal["kept", "undone", "on trial", "refused", "person", "fault"]
_SECONDS = ("sample", "pull", "assemble", "exposed_wait", "compute", "blocked")
_WINDOWS = f"""
SELECT max(number), epoch, first_step + num_steps AS step,
       (julianday(max(written.time)) - julianday(?1)) * 86400 AS at_s,
       sum(num_steps) AS num_steps, sum(remote_rows) AS remote, sum(hits) AS hits,
       sum(rows_fetched) AS fetched, sum(content ->> '$.rows.bytes_fetched') AS bytes,
       {", ".join(f"sum(content ->> '$.seconds.{name}') AS {name}" for name in _SECONDS)},
       sum(wall_s) AS wall, content ->> '$.settings' AS settings
FROM windows LEFT JOIN (
    SELECT CAST(substr(digests, length('{{"windows/') + 1) AS INTEGER) AS number, time
    FROM audit WHERE kind = 'record' AND tool = 'windows'
) AS written USING (number)
GROUP BY (number - 1) * ?2 / max(?2, (SELECT max(number) FROM windows))
ORDER BY number
"""
"""Windows in ?2 groups, each as its last window says; times are those of the audit log's rows,
which carry the digests of the windows that they were written with."""

_OWNERS = """
SELECT value ->> '$.part' AS part, sum(value ->> '$.rows') AS rows,
       sum(value ->> '$.pulls') AS pulls, sum(value ->> '$.seconds') AS seconds
FROM (SELECT content FROM windows ORDER BY number DESC LIMIT 32), json_each(content, '$.owners')
GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True)
class Point:
    """What was measured over some windows, or an epoch; None: not measured.

    at_s: seconds since the run began, at the end; step: steps done; trained_s: what these num_steps
    steps took; seconds: where that time went; rows_fetched, bytes_fetched: per step.
    """

    at_s: float
    epoch: int
    step: int
    num_steps: int
    trained_s: float
    seconds: Seconds
    hit_fraction: float | None
    rows_fetched: float
    bytes_fetched: float
    settings: BufferSettings | None = None

    def ms(self, seconds: float) -> float:
        """Milliseconds per step, of seconds of all its steps."""
        return 1000 * seconds / self.num_steps

    @property
    def step_ms(self) -> float:
        """Of a step."""
        return self.ms(self.trained_s)

    @property
    def wait_ms(self) -> float:
        """Exposed wait per step."""
        return self.ms(self.seconds.exposed_wait)


@dataclass(frozen=True)
class Mark:
    """Something that happened: a decision that proposed a change, what a person did, or a fault.

    episode: of a decision; row: of the audit log, for all else.
    """

    at_s: float
    step: int
    kind: MarkKind
    episode: Episode | None = None
    row: AuditRow | None = None


@dataclass(frozen=True)
class EpochEnd:
    """An epoch of one rank; loss: None where it has none."""

    at_s: float
    metrics: EpochMetrics


@dataclass(frozen=True)
class RankSeries:
    """All that is known of a rank over time.

    epochs: of a finished run; workload, owners: of a recorded one; owners: what each other
    partition sent in the last windows.
    """

    rank: int
    points: tuple[Point, ...] = ()
    marks: tuple[Mark, ...] = ()
    epochs: tuple[EpochEnd, ...] = ()
    workload: Workload | None = None
    owners: tuple[OwnerTraffic, ...] = ()

    @property
    def end_s(self) -> float:
        """When the last thing was measured or happened."""
        known = [*(p.at_s for p in self.points), *(m.at_s for m in self.marks)]
        return max([*known, *(end.at_s for end in self.epochs)], default=0.0)


def read_series(
    files: Sequence[Path], reports: Sequence[RankReport], *, num_points: int
) -> list[RankSeries]:
    """A series of each rank: of its record, if it has one, else of its epochs.

    files: of the run's record; those that cannot be read are left out, as verify tells of them;
    reports: of a finished run; num_points: at most, of a rank.
    """
    began = min(filter(None, map(_began_at, files)), default="")
    found = [_recorded(path, began, num_points) for path in files]
    recorded = {series.rank: series for series in found if series is not None}
    known = {report.rank: report for report in reports}
    ranks = sorted(recorded | known)
    return [_with_epochs(recorded.get(rank, RankSeries(rank)), known.get(rank)) for rank in ranks]


def _began_at(path: Path) -> str | None:
    with suppress(DataError), RunReader(path) as reader:
        found = reader.rows("SELECT min(began_at) AS began FROM sessions")[0]["began"]
        return None if found is None else str(found)
    return None


def _recorded(path: Path, began: str, num_points: int) -> RankSeries | None:
    """The series of one file; None where it cannot be read, or nothing was recorded."""
    with suppress(DataError), RunReader(path) as reader:
        if (rank := reader.rank()) is not None:
            return RankSeries(
                rank,
                points=tuple(_points(reader, began, num_points)),
                marks=tuple(_marks(reader, began)),
                workload=next(reversed(reader.workloads().values()), None),
                owners=tuple(OwnerTraffic.model_validate(row) for row in reader.rows(_OWNERS)),
            )
    return None


def _points(reader: RunReader, began: str, num_points: int) -> Iterator[Point]:
    found = reader.rows(_WINDOWS, began, num_points)
    walls = accumulate(_wall(row) for row in found)
    for row, passed in zip(found, walls, strict=True):
        yield Point(
            at_s=passed if row["at_s"] is None else row["at_s"],
            epoch=row["epoch"],
            step=row["step"],
            num_steps=row["num_steps"],
            trained_s=_wall(row),
            seconds=Seconds(**{name: row[name] or 0.0 for name in _SECONDS}),
            hit_fraction=row["hits"] / row["remote"] if row["remote"] else None,
            rows_fetched=row["fetched"] / row["num_steps"],
            bytes_fetched=row["bytes"] / row["num_steps"],
            settings=BufferSettings.model_validate_json(row["settings"]),
        )


def _wall(row: dict[str, Any]) -> float:
    """Seconds of the steps; of their parts where the wall clock was not read."""
    return float(row["wall"] or row["compute"] + row["exposed_wait"])


def _marks(reader: RunReader, began: str) -> Iterator[Mark]:
    """In order of time."""
    at = "(julianday(time) - julianday(?1)) * 86400"
    times = {row["number"]: row["at_s"] for row in reader.rows(
        f"SELECT number, {at} AS at_s FROM audit WHERE kind <> 'record' OR tool = 'begin_session'",
        began,
    )}  # fmt: skip
    rows = reader.audit()
    found = [*_decisions(reader, rows, times), *_others(reader, rows, times)]
    yield from sorted(found, key=lambda mark: mark.at_s)


def _decisions(
    reader: RunReader, rows: Sequence[AuditRow], times: dict[int, float]
) -> Iterator[Mark]:
    """Those that proposed a change."""
    first = {row.episode_id: times[row.number] for row in reversed(rows) if row.episode_id}
    for episode in reader.episodes():
        if not episode.plan.change.is_empty and episode.episode_id in first:
            at = first[episode.episode_id]
            yield Mark(at, episode.observation.step, _kind(episode), episode=episode)


def _kind(episode: Episode) -> MarkKind:
    if episode.applied is None or episode.applied.outcome != "applied":
        return "refused"
    result = None if episode.outcome is None else episode.outcome.result
    return "undone" if result == "reverted" else "kept" if result in _KEPT else "on trial"


_KEPT = ("confirmed", "kept")


def _others(reader: RunReader, rows: Sequence[AuditRow], times: dict[int, float]) -> Iterator[Mark]:
    """What a person or the schedule did, faults, and controllers that began anew."""
    for row in rows:
        is_fault = row.agent == "trainer" or row.error_type or row.tool in ("gap", "damaged_file")
        if row.agent in ("user", "schedule", "mcp") or is_fault:
            yield Mark(times[row.number], row.step, "fault" if is_fault else "person", row=row)
    again = reader.audit(AuditFilter(kind="record", tool="begin_session"))[1:]
    yield from (Mark(times[row.number], row.step, "fault", row=row) for row in again)


def _with_epochs(series: RankSeries, report: RankReport | None) -> RankSeries:
    """Epochs end when their last step was recorded, or one after the other."""
    if report is None:
        return series
    seconds = np.cumsum([epoch.seconds_total for epoch in report.epochs])
    steps = np.cumsum([epoch.num_steps for epoch in report.epochs])
    if series.points:
        known = [0, *(point.step for point in series.points)]
        seconds = np.interp(steps, known, [0.0, *(point.at_s for point in series.points)])
    ends = tuple(map(EpochEnd, seconds.tolist(), report.epochs))
    has_buffer = report.settings is not None
    points = series.points or tuple(
        _of_epoch(*each, has_buffer=has_buffer) for each in zip(ends, steps.tolist(), strict=True)
    )
    return replace(series, points=points, epochs=ends)


def _of_epoch(end: EpochEnd, step: int, *, has_buffer: bool) -> Point:
    epoch, num_steps = end.metrics, end.metrics.num_steps
    return Point(
        at_s=end.at_s,
        epoch=epoch.epoch,
        step=step,
        num_steps=num_steps,
        trained_s=epoch.seconds_total,
        seconds=epoch.seconds,
        hit_fraction=epoch.rows.hit_fraction if has_buffer else None,
        rows_fetched=epoch.rows.rows_fetched.total / num_steps,
        bytes_fetched=epoch.rows.bytes_fetched / num_steps,
    )
