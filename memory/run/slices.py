"""Sampled accesses of windows: compressed, and bounded in bytes.

A decision looks at the accesses of the last batches, and at the decayed uses of all before
(tools/estimate/past_uses.py). So the accesses of old windows are pruned, and their sums stay.
"""

from __future__ import annotations

import base64
import contextlib
import zlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rudder.memory.database import Database
from rudder.memory.store import Key, damaged, insert, rows
from rudder.tools.estimate.past_uses import PastUses
from rudder.training.errors import DataError
from rudder.training.metrics import AccessSlice

MAX_FILE_BYTES = 32 * 2**20
"""Of all slices of a file together."""
_KEPT_FRACTION = 0.98
"""Of `max_bytes` after pruning, so that not every window prunes."""
_SESSIONS = "SELECT DISTINCT first_window FROM decision_inputs"


@dataclass(frozen=True)
class PrunedUses:
    """Uses of one session's pruned slices; rate: share of the nodes that are sampled."""

    rate: float
    uses: PastUses

    @classmethod
    def of(cls, slices: Iterable[AccessSlice], *, before: PrunedUses | None = None) -> PrunedUses:
        """Of windows one after the other, and of those before them; a new rate begins anew."""
        rate, uses = (before.rate, before.uses) if before else (None, PastUses())
        for accesses in slices:
            if accesses.rate != rate:
                rate, uses = accesses.rate, PastUses()
            for nodes in accesses.batches():
                uses.add(nodes.astype(np.int64))
        if rate is None:
            raise ValueError("there is no slice")
        return cls(rate, uses)


def read_pruned_uses(db: Database, first_window: int) -> PrunedUses | None:
    """Of the session whose first row of `windows` has this number; None: nothing was pruned.

    Raises DataError.
    """
    found = list(rows(db, "SELECT * FROM pruned_uses WHERE first_window = ?", first_window))
    try:
        return _pruned_uses(**found[0]) if found else None
    except (zlib.error, ValueError) as error:
        raise damaged(f"the sum of accesses pruned from window {first_window} on", error) from None


def _pruned_uses(
    *, first_window: int, rate: float, nodes: bytes, sums: bytes, total: float, weight: float
) -> PrunedUses:
    known = np.frombuffer(zlib.decompress(nodes), dtype="<i4").astype(np.int64)
    uses = np.frombuffer(sums, dtype="<f8").astype(np.float64)
    if len(known) != len(uses):
        raise ValueError(f"{len(known)} nodes from window {first_window} on, {len(uses)} sums")
    return PrunedUses(rate, PastUses(known, uses, total=total, weight=weight))


def save_pruned_uses(db: Database, pruned: PrunedUses, *, first_window: int) -> None:
    """Keep a session's sums in place of those known so far, inside the caller's transaction."""
    uses = pruned.uses
    db.conn.execute("DELETE FROM pruned_uses WHERE first_window = ?", [first_window])
    insert(
        db,
        "pruned_uses",
        {
            "first_window": first_window,
            "rate": pruned.rate,
            "nodes": zlib.compress(uses.nodes.astype("<i4").tobytes(), 1),
            "sums": uses.sums.astype("<f8").tobytes(),
            "total": uses.total,
            "weight": uses.weight,
        },
    )


class Slices:
    """Adds slices and prunes them: over `max_bytes` the oldest go, of which sums are left.

    first_window: the number of the row in `windows` that the present session wrote first.
    """

    def __init__(
        self, db: Database, *, first_window: int = 1, max_bytes: int = MAX_FILE_BYTES
    ) -> None:
        self._max_bytes = max_bytes
        self._first_window = first_window
        total = db.conn.execute("SELECT coalesce(sum(num_bytes), 0) FROM slices").fetchone()[0]
        self._num_bytes = int(total)
        self._starts: list[int] = []

    def add(
        self, db: Database, accesses: AccessSlice, *, number: int, window: int
    ) -> Iterable[Key]:
        """Add a window's slice under the window's number, inside the caller's transaction;
        returns the rows that this wrote or pruned."""
        sizes = zlib.compress(np.array(accesses.sizes, dtype="<i4").tobytes())
        nodes = base64.b64decode(accesses.nodes)
        num_bytes = len(sizes) + len(nodes)
        values = {"number": number, "window": window, "rate": accesses.rate}
        insert(db, "slices", {**values, "sizes": sizes, "nodes": nodes, "num_bytes": num_bytes})
        self._num_bytes += num_bytes
        yield "slices", number
        if self._num_bytes > self._max_bytes:
            yield from self._prune(db)

    def _prune(self, db: Database) -> Iterable[Key]:
        """Drop the oldest, session by session."""
        pruned: dict[int, list[int]] = {}
        for row in rows(db, "SELECT number, num_bytes FROM slices ORDER BY number"):
            if self._num_bytes <= _KEPT_FRACTION * self._max_bytes:
                break
            self._num_bytes -= row["num_bytes"]
            pruned.setdefault(self._session_of(db, row["number"]), []).append(row["number"])
        for first_window, numbers in pruned.items():
            _add_up(db, numbers, first_window=first_window)
            db.conn.execute(
                "DELETE FROM slices WHERE number BETWEEN ? AND ?", (numbers[0], numbers[-1])
            )
            yield from (("slices", number) for number in numbers)
            yield "pruned_uses", first_window

    def _session_of(self, db: Database, number: int) -> int:
        """The first window of the session that wrote a window. Earlier sessions are looked up once:
        the table is read as a whole, and grows with every decision."""
        if not self._starts:
            earlier = (start for (start,) in db.conn.execute(_SESSIONS))
            self._starts = sorted({1, self._first_window, *earlier})
        return self._starts[bisect_right(self._starts, number) - 1]


def _add_up(db: Database, numbers: list[int], *, first_window: int) -> None:
    """A damaged one is left out; replay tells that the sums are not those of then."""
    with contextlib.suppress(DataError, ValueError):
        slices = [each for number in numbers if (each := read_slice(db, number)) is not None]
        uses = PrunedUses.of(slices, before=read_pruned_uses(db, first_window))
        save_pruned_uses(db, uses, first_window=first_window)


def read_slice(db: Database, number: int) -> AccessSlice | None:
    """The slice of the window with this number; None: not kept. Raises DataError."""
    found = db.conn.execute(
        "SELECT rate, sizes, nodes FROM slices WHERE number = ?", [number]
    ).fetchone()
    if found is None:
        return None
    rate, sizes, nodes = found
    try:
        counts = np.frombuffer(zlib.decompress(sizes), dtype="<i4").tolist()
        packed = base64.b64encode(nodes).decode("ascii")
        return AccessSlice(rate=rate, sizes=tuple(counts), nodes=packed)
    except (zlib.error, ValueError) as error:
        raise damaged(f"the access slice of window {number}", error) from None
