"""The files of runs that episodes are replayed from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rudder.memory.run_file import FOLDER, run_files
from rudder.memory.run_reader import RunReader
from rudder.training.errors import ConfigError

RUNS = Path("runs")


@dataclass(frozen=True)
class Found:
    """A rank's file, and the ids of the episodes that are wanted of it; None: all."""

    path: Path
    names: frozenset[str] | None


def find(names: Sequence[str], *, run: Path | None, runs: Path = RUNS) -> list[Found]:
    """Where episodes are, in one run or in all of a folder; no names: all of them.

    names: ids, or beginnings of ids. Raises ConfigError where one is nowhere, DataError where a
    file cannot be read.
    """
    paths = [path for folder in _folders(run, runs) for path in run_files(folder)]
    if not names:
        return [Found(path, None) for path in paths]
    places = dict(_places(names, paths))
    lost = [name for name in names if name not in {name for name, _ in places}]
    if lost:
        raise ConfigError(
            f"no episode {', '.join(lost)} in {run or runs}",
            remedy="name the run with --run; `rudder audit list RUN` shows ids",
        )
    found = {path: frozenset(i for (_, at), i in places.items() if at == path) for path in paths}
    return [Found(path, ids) for path, ids in found.items() if ids]


def _folders(run: Path | None, runs: Path) -> list[Path]:
    if run is not None:
        return [run]
    return sorted(path.parent for path in runs.glob(f"*/{FOLDER}"))


def _places(names: Sequence[str], paths: Sequence[Path]) -> Iterator[tuple[tuple[str, Path], str]]:
    for path in paths:
        with RunReader(path) as reader:
            for name in names:
                episode = reader.episode(name)
                if episode is not None:
                    yield (name, path), episode.episode_id
