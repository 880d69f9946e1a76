"""Past episodes that resemble the present, read from `memory.db`, which is never written here."""

from __future__ import annotations

import sqlite3
from array import array
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import ValidationError
from sqlite_utils import Database

from rudder.memory.journal import Recalled
from rudder.memory.migrations import EXPERIENCE
from rudder.memory.past.circumstances import (
    NUM_FEATURES,
    Vector,
    circumstances,
    completed,
    distance,
    signature,
)
from rudder.memory.past.nearest import Near, NearestIndex
from rudder.memory.records import Observation
from rudder.memory.run.episodes import parse_episode
from rudder.memory.store import open_reader
from rudder.training.errors import DataError, RudderError, complain
from rudder.training.workload import Workload

_MEASURED = ("confirmed", "reverted")
_READ = "SELECT number, policy, result, vector FROM recall_keys ORDER BY number"
_BEST = """
SELECT number, vector FROM recall_keys
WHERE signature = ? AND result = 'confirmed' AND wait_ms_after IS NOT NULL
ORDER BY wait_ms_after, number DESC LIMIT 1
"""
_LARGEST = """
SELECT number, vector FROM recall_keys JOIN episodes USING (number)
WHERE recall_keys.signature = ? AND recall_keys.result = 'confirmed'
ORDER BY json_extract(content, '$.applied.settings.capacity_rows') DESC, number DESC LIMIT 1
"""
_EPISODE = """
SELECT workloads.content, episodes.episode_id, episodes.content, episodes.checksum
FROM episodes JOIN workloads ON workloads.number = episodes.workload WHERE episodes.number = ?
"""


class Recall:
    """The experience of earlier runs, as it was when it was opened."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._indexes = _load(db)
        for index in self._indexes.values():
            index.nearest(np.zeros(NUM_FEATURES, dtype=np.uint8), limit=1)  # compiles the loop

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a memory; raises DataError where it cannot be."""
        db = open_reader(path, migrations=EXPERIENCE)
        try:
            return cls(db)
        except (sqlite3.Error, ValueError) as error:
            db.close()
            raise DataError(
                f"{path} cannot be read: {error}", remedy="restore it, or use --memory none"
            ) from None

    def recall(self, observation: Observation, workload: Workload, *, limit: int) -> list[Recalled]:
        """Episodes of the same policy, nearest first, the newest first among equals.

        Where there are some, one was confirmed and one reverted, and one is the best that the
        same work has come to (while the link is not known yet, also its largest buffer); the
        others are the nearest. Raises DataError.
        """
        vector = circumstances(observation, workload)
        near = self._nearest(
            vector, workload, limit=limit, is_link_known=observation.row_ms is not None
        )
        return [recalled for each in near for recalled in self._read(each)]

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _nearest(
        self, vector: Vector, workload: Workload, *, limit: int, is_link_known: bool
    ) -> list[Near]:
        by_result = {
            result: index.nearest(vector, limit=limit)
            for (policy, result), index in self._indexes.items()
            if policy == workload.policy
        }
        wanted = [near for result in _MEASURED for near in by_result.get(result, [])[:1]]
        others = sorted((near for each in by_result.values() for near in each), key=_order)
        best = self._best(
            vector, workload, queries=(_BEST,) if is_link_known else (_BEST, _LARGEST)
        )
        chosen = dict.fromkeys([*best, *wanted, *others])
        return sorted(list(chosen)[:limit], key=_order)

    def _best(self, vector: Vector, workload: Workload, *, queries: tuple[str, ...]) -> list[Near]:
        found = [
            row for query in queries for row in self._db.conn.execute(query, [signature(workload)])
        ]
        return [Near(distance(vector, stored), number) for number, stored in found]

    def _read(self, near: Near) -> list[Recalled]:
        """The episode; nothing where it was pruned meanwhile."""
        try:
            found = self._db.conn.execute(_EPISODE, [near.number]).fetchall()
            return [
                Recalled(
                    distance=near.distance,
                    workload=Workload.model_validate_json(workload),
                    episode=parse_episode(*episode),
                )
                for workload, *episode in found
            ]
        except (sqlite3.Error, ValidationError) as error:
            raise DataError(
                f"the memory of past runs cannot be read: {error}",
                remedy="restore the file, or use --memory none",
            ) from None


def _order(near: Near) -> tuple[float, int]:
    return near.distance, -near.number


def _load(db: Database) -> dict[tuple[str, str], NearestIndex]:
    """An index per policy and result; rows go into arrays at once, for they may be millions."""
    numbers: defaultdict[tuple[str, str], array[int]] = defaultdict(partial(array, "q"))
    vectors: defaultdict[tuple[str, str], bytearray] = defaultdict(bytearray)
    for number, policy, result, vector in db.conn.execute(_READ):
        numbers[policy, result].append(number)
        vectors[policy, result] += completed(vector)
    return {key: _index(numbers.pop(key), vectors.pop(key)) for key in list(numbers)}


def _index(numbers: array[int], vectors: bytearray) -> NearestIndex:
    packed = np.frombuffer(vectors, dtype=np.uint8)
    return NearestIndex(
        packed.reshape(len(numbers), NUM_FEATURES), np.frombuffer(numbers, dtype=np.int64)
    )


class Past:
    """The memory of earlier runs; after its first error it recalls nothing."""

    def __init__(self, recall: Recall | None = None) -> None:
        """recall: None where nothing is remembered."""
        self._recall = recall

    def recall(self, observation: Observation, workload: Workload, *, limit: int) -> list[Recalled]:
        """The nearest past episodes; none once the memory has failed."""
        if self._recall is None:
            return []
        try:
            return self._recall.recall(observation, workload, limit=limit)
        except RudderError as error:
            self.close()
            _say(error)
            return []

    def close(self) -> None:
        """Let go of the file."""
        if self._recall is not None:
            self._recall.close()
        self._recall = None


def open_past(path: Path | None) -> Past:
    """The memory at `path`; none where there is no file yet, or where it cannot be read."""
    if path is None or not path.exists():
        return Past()
    try:
        return Past(Recall.open(path))
    except RudderError as error:
        _say(error)
        return Past()


def _say(error: RudderError) -> None:
    complain(f"rudder: goes on without memory: {error}")
