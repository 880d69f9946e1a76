"""Episodes from run folders into the memory, and from memory to memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from rudder.memory.past.experience import Added, Catalog, Experience, PastEpisode
from rudder.memory.run.run_reader import RunReader, run_files
from rudder.training.buffer.hot_set import HotSet, hot_set_left
from rudder.training.errors import DataError
from rudder.training.workload import Workload


def fill(memory: Path, run_dir: Path, *, replaces_damaged: bool = False) -> Added:
    """Add the finished episodes of all ranks of a run; twice does no harm.

    run_dir: a run folder or one rank's file. A file that cannot be read is left out, and named.
    replaces_damaged: whether a damaged memory is moved away and a new one begun.
    Raises DataError without any file, or for the memory; MachineError, OSError or sqlite3.Error
    where that cannot be written.
    """
    paths = run_files(run_dir)
    with Experience(memory, replaces_damaged=replaces_damaged) as experience:
        return sum((_fill_one(experience, path) for path in paths), Added())


def _keep_hot_set(experience: Experience, path: Path, workload: Workload) -> None:
    """What the rank of this file left when its loader was closed."""
    hot = HotSet.load(hot_set_left(path.parent.parent, rank=workload.rank))
    if hot is not None:
        experience.keep_hot_set(hot, workload)


def merge(memory: Path, source: Path) -> Added:
    """Add a run folder, a rank's file, or another memory; of that, all keep their origin and are
    not used until they are trusted."""
    if source.is_file() and _is_memory(source):
        with Catalog(source) as catalog, Experience(memory) as experience:
            return experience.add(_as_foreign(catalog.episodes(), experience), trusted=False)
    return fill(memory, source)


def export(memory: Path, out: IO[str], *, origin: str | None = None) -> int:
    """Write episodes as lines of JSON, of one origin or of all; returns how many."""
    count = 0
    with Catalog(memory) as catalog:
        for past in catalog.episodes(origin=origin):
            out.write(past.model_dump_json() + "\n")
            count += 1
    return count


def import_(memory: Path, lines: IO[str], *, name: str) -> Added:
    """Add exported episodes, untrusted, all or none; raises DataError with the first bad line.

    name: of the file, for the message.
    """
    with Experience(memory) as experience:
        return experience.add(_as_foreign(_parse(lines, name), experience), trusted=False)


def _fill_one(experience: Experience, path: Path) -> Added:
    try:
        with RunReader(path) as reader:
            workloads = reader.workloads()
            episodes = [
                PastEpisode(
                    origin=experience.origin,
                    ended_at=reader.ended_at(episode.episode_id),
                    workload=workloads[episode.run_key],
                    episode=episode,
                )
                for episode in reader.episodes(finished=True)
                if episode.run_key in workloads
            ]
            experience.keep_head(reader)
    except DataError as error:
        return Added(left_out=(f"{path}: {error.message}",))
    for workload in list(workloads.values())[-1:]:
        _keep_hot_set(experience, path, workload)
    return experience.add(episodes, trusted=True)


def _as_foreign(episodes: Iterator[PastEpisode], experience: Experience) -> Iterator[PastEpisode]:
    """What claims to be from here but comes from outside gets an origin that says so."""
    for past in episodes:
        is_own = past.origin == experience.origin
        origin = f"{past.origin}-imported" if is_own else past.origin
        yield past.model_copy(update={"origin": origin})


def _parse(lines: IO[str], name: str) -> Iterator[PastEpisode]:
    try:
        for number, line in enumerate(lines, start=1):
            yield _parse_line(line, f"{name}, line {number}")
    except UnicodeDecodeError:
        raise _not_exported(f"{name} is not text") from None


def _parse_line(line: str, place: str) -> PastEpisode:
    try:
        return PastEpisode.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise _not_exported(f"{place}: {where}{first['msg']}") from None


def _not_exported(problem: str) -> DataError:
    return DataError(problem, remedy="import a file that `rudder memory export` wrote")


def _is_memory(path: Path) -> bool:
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'recall_keys'")
        is_memory = found.fetchone() is not None
        connection.close()
    except sqlite3.Error:
        return False
    return is_memory
