"""Sampled access slices of windows: compressed, and bounded in bytes."""

from __future__ import annotations

import base64
import contextlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sqlite_utils import Database

from rudder.memory.store import Key
from rudder.tools.estimate.past_uses import PastUses, UseSums
from rudder.training.errors import DataError
from rudder.training.metrics import AccessSlice

# What pruned slices said of the nodes: sums that take little room, however long a run was.
#
# A decision looks at the last batches themselves, and at the decayed uses of all before
# (tools/estimate/past_uses.py). So the accesses of old windows may go, if their sums stay.


_NODE, _SUM = np.dtype("<i4"), np.dtype("<f8")


@dataclass(frozen=True)
class PrunedUses:
    """Uses of one session's pruned slices; rate: share of the nodes that are sampled."""

    rate: float
    uses: UseSums

    @classmethod
    def none(cls, *, rate: float) -> PrunedUses:
        """Nothing was pruned yet."""
        return cls(rate, UseSums.none())

    def with_slices(self, slices: Iterable[AccessSlice]) -> PrunedUses:
        """And the next windows'; a new rate begins anew."""
        rate, past = self.rate, PastUses(self.uses)
        for accesses in slices:
            if accesses.rate != rate:
                rate, past = accesses.rate, PastUses()
            for nodes in accesses.batches():
                past.add(nodes.astype(np.int64))
        return PrunedUses(rate, past.sums)


def read_pruned_uses(db: Database, first_window: int) -> PrunedUses | None:
    """Of the session whose first row of `windows` has this number; None: nothing was pruned.

    Raises DataError.
    """
    found = db.conn.execute(
        "SELECT rate, nodes, sums, total, weight FROM pruned_uses WHERE first_window = ?",
        [first_window],
    ).fetchone()
    if found is None:
        return None
    rate, nodes, sums, total, weight = found
    try:
        known = np.frombuffer(zlib.decompress(nodes), dtype=_NODE).astype(np.int64)
        of_nodes = np.frombuffer(sums, dtype=_SUM).astype(np.float64)
        return PrunedUses(rate, UseSums(known, of_nodes, total, weight))
    except (zlib.error, ValueError) as error:
        raise DataError(
            f"sums of pruned accesses are damaged: {error}", remedy="leave them out"
        ) from None


def save_pruned_uses(db: Database, pruned: PrunedUses, *, first_window: int) -> None:
    """Keep a session's sums in place of those known so far, inside the caller's transaction."""
    uses = pruned.uses
    db.conn.execute(
        "INSERT OR REPLACE INTO pruned_uses VALUES (?, ?, ?, ?, ?, ?)",
        (
            first_window, pruned.rate, zlib.compress(uses.nodes.astype(_NODE).tobytes(), 1),
            uses.sums.astype(_SUM).tobytes(), uses.total, uses.weight,
        ),
    )  # fmt: skip


MAX_FILE_BYTES = 32 * 2**20
"""Of all slices of a file together."""
_KEPT_FRACTION = 0.98
"""Of `max_bytes` after pruning, so that not every window prunes."""

_SESSION = """
SELECT coalesce(max(first_window), 1) FROM (
    SELECT first_window FROM decision_inputs UNION SELECT ?
) WHERE first_window <= ?
"""


class Slices:
    """Adds slices and prunes them: over `max_bytes` the oldest go, of which sums are left."""

    def __init__(self, db: Database, *, max_bytes: int = MAX_FILE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._first_window = 1
        total = db.conn.execute("SELECT coalesce(sum(num_bytes), 0) FROM slices").fetchone()[0]
        self._num_bytes = int(total)

    def begin(self, *, first_window: int) -> None:
        """A session begins, whose first row of `windows` will have this number."""
        self._first_window = first_window

    def add(
        self, db: Database, accesses: AccessSlice, *, number: int, window: int
    ) -> Iterable[Key]:
        """Add a window's slice under the window's number, inside the caller's transaction;
        returns the rows that this wrote or pruned."""
        sizes = zlib.compress(np.array(accesses.sizes, dtype="<i4").tobytes())
        nodes = base64.b64decode(accesses.nodes)
        num_bytes = len(sizes) + len(nodes)
        db.conn.execute(
            "INSERT INTO slices (number, window, rate, sizes, nodes, num_bytes)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (number, window, accesses.rate, sizes, nodes, num_bytes),
        )
        self._num_bytes += num_bytes
        yield "slices", number
        if self._num_bytes > self._max_bytes:
            yield from self._prune(db)

    def _prune(self, db: Database) -> Iterable[Key]:
        """Drop the oldest, session by session."""
        pruned: dict[int, list[int]] = {}
        for number, num_bytes in db.conn.execute(
            "SELECT number, num_bytes FROM slices ORDER BY number"
        ):
            if self._num_bytes <= _KEPT_FRACTION * self._max_bytes:
                break
            self._num_bytes -= num_bytes
            pruned.setdefault(self._session_of(db, number), []).append(number)
        for first_window, numbers in pruned.items():
            _add_up(db, numbers, first_window=first_window)
            db.conn.execute(
                "DELETE FROM slices WHERE number BETWEEN ? AND ?", (numbers[0], numbers[-1])
            )
            yield from (("slices", number) for number in numbers)
            yield "pruned_uses", first_window

    def _session_of(self, db: Database, number: int) -> int:
        """The number of the first window of a window's session."""
        return int(db.conn.execute(_SESSION, (self._first_window, number)).fetchone()[0])


def _add_up(db: Database, numbers: list[int], *, first_window: int) -> None:
    """A damaged one is left out; replay tells that the sums are not those of then."""
    with contextlib.suppress(DataError, ValueError):
        slices = [each for number in numbers if (each := read_slice(db, number)) is not None]
        known = read_pruned_uses(db, first_window) or PrunedUses.none(rate=slices[0].rate)
        save_pruned_uses(db, known.with_slices(slices), first_window=first_window)


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
