"""Where each rank's log ends, told to one other rank as the run goes on.

A rank's log can be written anew as a whole, with all its hashes. So each rank's controller keeps
where the log of the next rank ends: whoever changes some ranks' logs, but not all, is found.
"""

from __future__ import annotations

from rudder.training.control.messages import LogHead
from rudder.training.control.peers import KeyValueStore, SharedKeys


class LogHeads:
    """Heads of logs, passed through the key-value store that the ranks met at.

    An error ends the passing, not the run. Use it from one thread.
    """

    def __init__(
        self,
        store: KeyValueStore | None = None,
        *,
        rank: int = 0,
        world_size: int = 1,
        run_key: str = "",
    ) -> None:
        """Without a store, or with one rank only, nothing is passed."""
        self._store = store if world_size > 1 else None
        self._own, following = (
            f"rudder/log_head/{run_key}/{each % world_size}" for each in (rank, rank + 1)
        )
        self._next = SharedKeys([following])

    def exchange(self, head: LogHead) -> LogHead | None:
        """Tell where this rank's log ends; returns the same of the next rank, None: not known yet.

        Takes two round trips, at first three, and waits for no rank.
        """
        if self._store is None:
            return None
        try:
            self._store.set(self._own, head.model_dump_json())
            (key,) = self._next.found(self._store)
            found = self._store.get(key).strip()
            return LogHead.model_validate_json(found) if found else None
        except (RuntimeError, OSError, ValueError):
            self._store = None
            return None
