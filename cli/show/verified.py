"""Whether a run's record is as it was written, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rudder.memory.past.experience import Catalog
from rudder.memory.run.audit import Head
from rudder.memory.run.run_reader import RunReader, run_file, run_files
from rudder.memory.run.verify import Verification
from rudder.memory.store import LaterVersionError
from rudder.training.errors import DataError
from rudder.training.steering_options import default_memory


@dataclass(frozen=True)
class Verified:
    """What verify found in a file, or in a run's folder."""

    file: Path
    found: Verification

    @property
    def text(self) -> str:
        """The finding for people, with a line for each effect that no intent announced."""
        row = "" if self.found.broken_row is None else f"row {self.found.broken_row}: "
        end = self._held() if self.found.holds else f"BROKEN: {row}{self.found.reason}"
        notes = (f"\n  row {n}: an effect without an intent" for n in self.found.unannounced)
        return f"{self.file}: {end}" + "".join(notes)

    def _held(self) -> str:
        """How much is as it was written, and what cannot be checked."""
        end, begun = f"{self.found.rows:,} rows hold", self.found.chained_from
        if begun is None:
            return f"{end}; an earlier version, without digests of other tables, wrote it"
        tables = f"{end}, and {self.found.table_rows:,} rows of other tables"
        return tables if begun == 1 else f"{tables}, as they were when row {begun} was written"


def verified(where: Path, *, memory: Path | None = None) -> list[Verified]:
    """What verify finds in each file of a run, and which files are missing; or in one file.

    memory: keeps where logs ended when they were merged; default: memory.db in the data folder.
    """
    results = [_verified(path, memory) for path in run_files(where)]
    if where.is_dir():
        results = [*map(_in_its_place, results), *_missing(results, where)]
    return results


def _verified(path: Path, memory: Path | None) -> Verified:
    """What verify found; if the file cannot even be opened, why."""
    try:
        reader = RunReader(path)
    except LaterVersionError:
        raise
    except DataError as error:
        return Verified(path, Verification(rows=0, reason=error.message))
    with reader:
        return Verified(path, reader.verify(known=_known_heads(reader, memory)))


def _in_its_place(result: Verified) -> Verified:
    """Broken where the file is of another rank than its name says."""
    rank = result.found.rank
    if not result.found.holds or rank is None or result.file.stem == f"rank{rank}":
        return result
    return replace(result, found=replace(result.found, reason=f"it is the record of rank {rank}"))


def _missing(results: list[Verified], where: Path) -> Iterator[Verified]:
    """Broken results for files of a run that are not there, or that are of another run."""
    runs = {each.found.run_key for each in results if each.found.run_key is not None}
    if len(runs) > 1:
        yield Verified(where, Verification(rows=0, reason=f"its files are of {len(runs)} runs"))
    for rank in range(max((each.found.num_ranks or 0 for each in results), default=0)):
        path = run_file(where, rank=rank)
        if not path.exists():
            yield Verified(path, Verification(rows=0, reason="it is missing"))


def _known_heads(reader: RunReader, memory: Path | None) -> tuple[Head, ...]:
    """Where the log ended when it was merged into a memory, if it was."""
    path = memory or default_memory()
    if memory is None and not path.exists():
        return ()
    try:
        keys = {(each.run_key, each.rank) for each in reader.workloads().values()}
    except DataError:
        return ()
    with Catalog(path) as catalog:
        return tuple(
            head for key, rank in keys for head in catalog.audit_heads(run_key=key, rank=rank)
        )
