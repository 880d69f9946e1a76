"""Sampled access slices of windows: compressed, and bounded in bytes."""

from __future__ import annotations

import base64
import zlib

import numpy as np
from sqlite_utils import Database

from rudder.training.access_slice import AccessSlice
from rudder.training.errors import DataError

MAX_FILE_BYTES = 32 * 2**20
"""Of all slices of a file together."""
MAX_SLICE_BYTES = 2**20
"""A larger slice is not kept."""
WINDOWS_OF_EPISODE = 8
"""The windows up to an episode's own that its decision rests on."""

_OLDEST = f"""
SELECT number, num_bytes FROM slices ORDER BY EXISTS (
    SELECT 1 FROM episodes
    WHERE slices.window > episodes.window - {WINDOWS_OF_EPISODE}
      AND slices.window <= episodes.window
), number
"""


class Slices:
    """Adds slices and prunes them: over `max_bytes` the oldest go, and of these first those that
    no episode was decided on."""

    def __init__(self, db: Database, *, max_bytes: int = MAX_FILE_BYTES) -> None:
        self._max_bytes = max_bytes
        total = db.conn.execute("SELECT coalesce(sum(num_bytes), 0) FROM slices").fetchone()[0]
        self._num_bytes = int(total)

    def add(self, db: Database, accesses: AccessSlice, *, number: int, window: int) -> None:
        """Add a window's slice under the window's number, inside the caller's transaction."""
        sizes = zlib.compress(np.array(accesses.sizes, dtype="<i4").tobytes())
        nodes = base64.b64decode(accesses.nodes)
        num_bytes = len(sizes) + len(nodes)
        if num_bytes > MAX_SLICE_BYTES:
            return
        db.conn.execute(
            "INSERT INTO slices (number, window, rate, sizes, nodes, num_bytes)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (number, window, accesses.rate, sizes, nodes, num_bytes),
        )
        self._num_bytes += num_bytes
        if self._num_bytes > self._max_bytes:
            self._prune(db)

    def _prune(self, db: Database) -> None:
        """Down to nine tenths, so that not every window prunes."""
        found = iter(db.conn.execute(_OLDEST).fetchall())
        while self._num_bytes > 0.9 * self._max_bytes:
            number, num_bytes = next(found)
            db.conn.execute("DELETE FROM slices WHERE number = ?", [number])
            self._num_bytes -= num_bytes


def read_slice(db: Database, number: int) -> AccessSlice | None:
    """The slice of the window with this number; None: not kept. Raises DataError."""
    found = db.conn.execute(
        "SELECT rate, sizes, nodes FROM slices WHERE number = ?", [number]
    ).fetchone()
    if found is None:
        return None
    rate, sizes, nodes = found
    try:
        counts = np.frombuffer(zlib.decompress(sizes), dtype="<i4")
        return AccessSlice(
            rate=rate,
            sizes=tuple(counts.tolist()),
            nodes=base64.b64encode(nodes).decode("ascii"),
        )
    except (zlib.error, ValueError) as error:
        raise DataError(
            f"the access slice of window {number} is damaged: {error}", remedy="leave it out"
        ) from None
