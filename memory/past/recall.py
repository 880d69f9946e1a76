"""Past episodes that resemble the present, read from `memory.db`, which is never written here.

The nearest of up to millions of past circumstances are found by looking at all of them: a million
rows of a few small integers are read in about a millisecond, one feature after the other over
blocks that stay in the cache; no tree is as fast in so many dimensions.
"""

from __future__ import annotations

import math
import zlib
from array import array
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rudder.memory.database import Database
from rudder.memory.journal import Recalled
from rudder.memory.migrations import EXPERIENCE
from rudder.memory.past.circumstances import (
    NUM_FEATURES,
    UNIT,
    Vector,
    circumstances,
    completed,
    distance,
    signature,
)
from rudder.memory.past.experience import PAST, past_episode
from rudder.memory.records import Observation
from rudder.memory.store import Reader
from rudder.training.buffer.hot_set import HotSet
from rudder.training.compiled import compiled
from rudder.training.errors import DataError
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
  AND recall_keys.wait_ms_after IS NOT NULL
ORDER BY json_extract(content, '$.applied.settings.capacity_rows') DESC, number DESC LIMIT 1
"""
_BLOCK = 2048
_FAR = 2**31 - 1
_FEW = 10_000
"""Episodes of a policy and result up to which numpy looks at them, in milliseconds: numba takes
half a second to load a compiled loop, for which a run's first batches do not wait."""


class Recall(Reader):
    """The experience of earlier runs, as it was when it was opened; methods raise as those of
    Reader do."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, migrations=EXPERIENCE)
        try:
            self._indexes = self.read(lambda: _load(self.db))
        except DataError:
            self.close()
            raise

    def recall(self, observation: Observation, workload: Workload, *, limit: int) -> list[Recalled]:
        """Episodes of the same policy, nearest first, the newest first among equals.

        Where there are some, one was confirmed and one reverted, and one is the best that the
        same work has come to (while the link is not known yet, also its largest buffer); the
        others are the nearest.
        """
        vector = circumstances(observation, workload)
        near = self._nearest(
            vector, workload, limit=limit, is_link_known=observation.row_ms is not None
        )
        return [recalled for each in near for recalled in self._read(each)]

    def hot_set(self, workload: Workload) -> HotSet | None:
        """What the last run on this work used most; None where none was kept."""
        found = self.rows(
            "SELECT nodes, uses FROM hot_sets WHERE signature = ?", signature(workload)
        )
        return self.read(lambda: _hot_set(**found[0])) if found else None

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
        found = [row for query in queries for row in self.rows(query, signature(workload))]
        return [Near(distance(vector, row["vector"]), row["number"]) for row in found]

    def _read(self, near: Near) -> list[Recalled]:
        """The episode; nothing where it was pruned meanwhile."""
        found = self.rows(f"{PAST} WHERE episodes.number = ?", near.number)
        pasts = [past_episode(row) for row in found]
        return [
            Recalled(distance=near.distance, workload=past.workload, episode=past.episode)
            for past in pasts
        ]


def _hot_set(*, nodes: bytes, uses: bytes) -> HotSet:
    try:
        ids = np.frombuffer(zlib.decompress(nodes), dtype="<i8").astype(np.int64)
        counts = np.frombuffer(zlib.decompress(uses), dtype="<f4").astype(np.float32)
    except zlib.error as error:
        raise ValueError(f"a hot set is damaged: {error}") from None
    return HotSet(ids, counts)


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


# -- the nearest ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Near:
    """An episode by its number in memory, and its distance (0: equal circumstances)."""

    distance: float
    number: int


class NearestIndex:
    """Points that never change."""

    def __init__(self, vectors: NDArray[np.uint8], numbers: NDArray[np.int64]) -> None:
        """vectors: uint8[n, features]; numbers: int64[n], higher is newer."""
        newest_first = np.argsort(-numbers)
        self._numbers = numbers[newest_first]
        self._columns = np.ascontiguousarray(vectors[newest_first].T)

    def nearest(self, vector: Vector, *, limit: int) -> list[Near]:
        """At most `limit`, nearest first, the newest first among equals."""
        if limit < 1:
            return []
        find = _by_numpy if len(self._numbers) <= _FEW else _by_scan
        rows, squares = find(self._columns, vector, min(limit, len(self._numbers)))
        return [
            Near(math.sqrt(square) / UNIT, int(self._numbers[row]))
            for row, square in zip(rows, squares, strict=True)
        ]


def _by_numpy(
    columns: NDArray[np.uint8], vector: Vector, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    apart = columns.astype(np.int32) - vector.astype(np.int32)[:, np.newaxis]
    sums = (apart * apart).sum(axis=0, dtype=np.int32)
    rows = np.argsort(sums, kind="stable")[:limit]
    return rows, sums[rows]


def _by_scan(
    columns: NDArray[np.uint8], vector: Vector, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    rows, squares = np.empty(limit, dtype=np.int64), np.full(limit, _FAR, dtype=np.int32)
    _scan(columns, vector, rows, squares)
    return rows, squares


@compiled
def _insert(
    sums: NDArray[np.int32], start: int, rows: NDArray[np.int64], squares: NDArray[np.int32]
) -> None:
    """Put a block's nearest in their places."""
    for row in range(len(sums)):
        if sums[row] >= squares[-1]:
            continue
        place = len(rows) - 1
        while place > 0 and squares[place - 1] > sums[row]:
            squares[place] = squares[place - 1]
            rows[place] = rows[place - 1]
            place -= 1
        squares[place] = sums[row]
        rows[place] = start + row


@compiled
def _scan(
    columns: NDArray[np.uint8],
    vector: NDArray[np.uint8],
    rows: NDArray[np.int64],
    squares: NDArray[np.int32],
) -> None:
    """Fill rows and squares (of distances) with the nearest, of equals those that come first."""
    num_features, num_rows = columns.shape
    sums = np.empty(_BLOCK, dtype=np.int32)
    for start in range(0, num_rows, _BLOCK):
        size = min(_BLOCK, num_rows - start)
        sums[:] = 0
        for feature in range(num_features):
            wanted = np.int32(vector[feature])
            column = columns[feature, start : start + size]
            for row in range(size):
                difference = np.int32(column[row]) - wanted
                sums[row] += difference * difference
        nearest = np.int32(_FAR)
        for row in range(size):
            nearest = min(nearest, sums[row])
        if nearest < squares[-1]:
            _insert(sums[:size], start, rows, squares)
