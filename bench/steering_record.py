"""What the controllers of a run changed, and how good their estimates were; from their records."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from rudder.memory.records import Episode
from rudder.memory.run.run_reader import RunReader, run_files
from rudder.training.errors import DataError
from rudder.training.settings import BufferSettings

HONEST_FRACTION = 0.05
"""An estimate of rows fetched that is off by no more is honest."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class ChangeStats(_Frozen):
    """One rank's changes, and the settings before the first window and after the last one.

    rows_errors: (measured - expected) / expected rows fetched, of each change whose buffer had
    settled when its trial ended; unmeasured: the other applied changes, which had no estimate or
    whose trial ended earlier.
    """

    rank: int
    applied: int
    confirmed: int
    reverted: int
    rows_errors: tuple[float, ...]
    unmeasured: int
    first: BufferSettings | None
    last: BufferSettings | None

    @property
    def given_back(self) -> float | None:
        """Share of the first capacity that was given back; negative if the buffer grew."""
        if self.first is None or self.last is None or not self.first.capacity_rows:
            return None
        return 1 - self.last.capacity_rows / self.first.capacity_rows


class EstimateError(_Frozen):
    """How near the estimates of rows fetched came to the measurements."""

    changes: int = Field(description="applied changes whose trial ended")
    within: int = Field(description=f"of them, off by at most {HONEST_FRACTION:.0%}")
    median_error: float | None = Field(description="of absolute relative errors")
    worst_error: float | None

    @classmethod
    def of(cls, errors: Sequence[float]) -> EstimateError:
        """Of relative errors."""
        sizes = [abs(error) for error in errors]
        return cls(
            changes=len(sizes),
            within=sum(size <= HONEST_FRACTION for size in sizes),
            median_error=statistics.median(sizes) if sizes else None,
            worst_error=max(sizes, default=None),
        )

    @property
    def fraction(self) -> float | None:
        """Share of changes whose estimate was within; None if there was no change."""
        return self.within / self.changes if self.changes else None


def change_stats_in(folder: Path) -> tuple[ChangeStats, ...]:
    """One for each rank with a record in `folder`/steering; raises DataError if there is none."""
    return tuple(_stats(file) for file in run_files(folder))


def change_stats_below(folders: Iterable[Path]) -> Iterator[tuple[Path, ChangeStats]]:
    """The changes in every record in and below these folders, with the record's run folder."""
    for file in records_below(folders):
        yield file.parent.parent, _stats(file)


def records_below(folders: Iterable[Path]) -> Iterator[Path]:
    """The records of all ranks in and below these folders; raises DataError if one has none."""
    for folder in folders:
        files = sorted(folder.rglob("steering/rank*.db"))
        if not files:
            raise DataError(
                f"nothing below {folder} was steered", remedy="name folders of runs or benchmarks"
            )
        yield from files


def _stats(file: Path) -> ChangeStats:
    with RunReader(file) as reader:
        applied = [each for each in reader.episodes() if _was_applied(each)]
        windows = reader.windows()
        workload = next(iter(reader.workloads().values()), None)
    outcomes = [each.outcome for each in applied if each.outcome is not None]
    errors = [each.rows_error for each in outcomes if each.rows_error is not None]
    return ChangeStats(
        rank=int(file.stem.removeprefix("rank")),
        applied=len(applied),
        confirmed=sum(outcome.result == "confirmed" for outcome in outcomes),
        reverted=sum(outcome.result == "reverted" for outcome in outcomes),
        rows_errors=tuple(errors),
        unmeasured=len(applied) - len(errors),
        first=workload.defaults if workload is not None else None,
        last=windows[-1].settings if windows else None,
    )


def _was_applied(episode: Episode) -> bool:
    return episode.applied is not None and episode.applied.outcome == "applied"
