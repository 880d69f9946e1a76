"""What pruned slices said of the nodes: sums that take little room, however long a run was.

A decision looks at the last batches themselves, and at the decayed uses of all before
(tools/past_uses.py). So the accesses of old windows may go, if their sums stay.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from rudder.tools.past_uses import HEAT_GROWTH
from rudder.training.access_slice import AccessSlice
from rudder.training.errors import DataError

_NODE, _SUM = np.dtype("<i4"), np.dtype("<f8")


@dataclass(frozen=True)
class PrunedUses:
    """Uses of one session's pruned slices, to the last digit as tools/past_uses.py adds them up.

    rate: share of the nodes that are sampled; nodes: int32[n], distinct; sums: float64[n], of each
    node's uses; total: of a node used in every batch; weight: of a use in the next batch.
    """

    rate: float
    nodes: NDArray[np.int32]
    sums: NDArray[np.float64]
    total: float = 0.0
    weight: float = 1.0

    @classmethod
    def none(cls, *, rate: float) -> PrunedUses:
        """Nothing was pruned yet."""
        return cls(rate, np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float64))

    def with_slices(self, slices: Iterable[AccessSlice]) -> PrunedUses:
        """And the next windows'; a new rate begins anew."""
        sums = self
        for accesses in slices:
            same = sums if accesses.rate == sums.rate else PrunedUses.none(rate=accesses.rate)
            sums = same._with_batches(accesses.batches())
        return sums

    def _with_batches(self, batches: list[NDArray[np.int32]]) -> PrunedUses:
        nodes, sums, total, weight = [self.nodes], [self.sums], self.total, self.weight
        for batch in batches:
            nodes.append(batch)
            sums.append(np.full(len(batch), weight))
            total += weight
            weight *= HEAT_GROWTH
        distinct, place = np.unique(np.concatenate(nodes), return_inverse=True)
        added = np.bincount(place, weights=np.concatenate(sums), minlength=len(distinct))
        return PrunedUses(self.rate, distinct, added.astype(np.float64), total, weight)


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
        return PrunedUses(
            rate=rate,
            nodes=np.frombuffer(zlib.decompress(nodes), dtype=_NODE).astype(np.int32),
            sums=np.frombuffer(sums, dtype=_SUM).astype(np.float64),
            total=total,
            weight=weight,
        )
    except (zlib.error, ValueError) as error:
        raise DataError(
            f"sums of pruned accesses are damaged: {error}", remedy="leave them out"
        ) from None


def save_pruned_uses(db: Database, uses: PrunedUses, *, first_window: int) -> None:
    """Keep a session's sums in place of those known so far, inside the caller's transaction."""
    db.conn.execute(
        "INSERT OR REPLACE INTO pruned_uses VALUES (?, ?, ?, ?, ?, ?)",
        (
            first_window, uses.rate, zlib.compress(uses.nodes.astype(_NODE).tobytes(), 1),
            uses.sums.astype(_SUM).tobytes(), uses.total, uses.weight,
        ),
    )  # fmt: skip
