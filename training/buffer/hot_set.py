"""The remote rows that a run used most, kept for the next run on the same work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rudder.training.errors import ARCHIVE_ERRORS

MAX_HOT_ROWS = 100_000
"""As many ids as one change may name."""
_FOLDER = "hot"


@dataclass(frozen=True)
class HotSet:
    """nodes: int64[n] global ids, the hottest first; uses: float32[n], recent uses weigh more."""

    nodes: NDArray[np.int64]
    uses: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write the file; raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez(file, nodes=self.nodes, uses=self.uses)

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read the file; None where there is none, or it is damaged."""
        try:
            with path.open("rb") as file, np.load(file) as kept:
                nodes, uses = kept["nodes"].astype(np.int64), kept["uses"].astype(np.float32)
        except ARCHIVE_ERRORS:
            return None
        return cls(nodes, uses) if nodes.shape == uses.shape and nodes.ndim == 1 else None


NO_HOT_SET = HotSet(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


def hot_set_left(run_dir: Path, *, rank: int) -> Path:
    """Where a loader leaves the hot set of its run."""
    return run_dir / _FOLDER / f"rank{rank}.npz"


def hot_set_beside(socket: Path) -> Path:
    """Where the loader at this control socket finds the hot set of an earlier run."""
    return socket.with_suffix(".hot.npz")
