"""What pruned slices said of the nodes: sums that take little room, however long a run was.

A decision looks at the last batches themselves, and at the decayed uses of all before
(tools/past_uses.py). So the accesses of old windows may go, if their sums stay.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sqlite_utils import Database

from rudder.tools.past_uses import PastUses, UseSums
from rudder.training.access_slice import AccessSlice
from rudder.training.errors import DataError

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
