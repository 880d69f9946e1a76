"""The ranks' paces, told through the key-value store that they met at.

A rank writes under its own key and reads the others'. Each loader of a job has keys of its own.
Nothing here waits for a rank: a key that is read was made before, empty where its rank has not
written yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rudder.training.errors import complain
from rudder.training.metrics import StepTiming

_FIRST_LOOKS_AT_ONCE = 4
"""Ranks that are looked for in one exchange; each takes a round trip, once."""


class Store(Protocol):
    """What is used of a store of torch.distributed."""

    def set(self, key: str, value: str, /) -> None:
        """Write a key."""

    def get(self, key: str, /) -> bytes:
        """Read a key, or wait for it."""

    def multi_get(self, keys: list[str], /) -> list[bytes]:
        """Read keys, or wait for them."""

    def compare_set(self, key: str, expected: str, desired: str, /) -> bytes:
        """Write where the key has `expected`, or is missing and that is empty; read it."""

    def has_extended_api(self) -> bool:
        """Whether there is `multi_get`."""


class NoPeers:
    """No process group: this rank knows of no other."""

    def exchange(self, pace: StepTiming) -> tuple[StepTiming, ...]:
        """Tell nobody."""
        return ()


NO_PEERS = NoPeers()


class Peers:
    """The other ranks' last words. An error ends the exchange, not the run."""

    def __init__(self, store: Store, *, rank: int, world_size: int, run_key: str) -> None:
        """Use the store from one thread; run_key: of this loader's run, the same on all ranks."""
        self._store = store
        self._key = timing_key(run_key, rank)
        others = (other for other in range(world_size) if other != rank)
        self._unseen = [timing_key(run_key, other) for other in others]
        self._seen: list[str] = []
        self._is_working = True

    def exchange(self, pace: StepTiming) -> tuple[StepTiming, ...]:
        """Tell the others this rank's pace; returns theirs, of those who have told."""
        if not self._is_working:
            return ()
        try:
            self._store.set(self._key, pace.model_dump_json())
            self._look_for_others()
            texts = [text for text in self._read(self._seen) if text]
            return tuple(StepTiming.model_validate_json(text) for text in texts)
        except (RuntimeError, OSError, ValueError) as error:
            self._is_working = False
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            complain(f"rudder: the ranks' paces are no longer shared: {reason}")
            return ()

    def _look_for_others(self) -> None:
        """Make sure that some more keys exist, so that reading them never waits."""
        for _ in range(min(_FIRST_LOOKS_AT_ONCE, len(self._unseen))):
            key = self._unseen.pop(0)
            self._store.compare_set(key, "", "")
            self._seen.append(key)

    def _read(self, keys: Sequence[str]) -> list[bytes]:
        if keys and self._store.has_extended_api():
            return self._store.multi_get(list(keys))
        return [self._store.get(key) for key in keys]


def timing_key(run_key: str, rank: int) -> str:
    """Where a rank tells its pace in one loader's run."""
    return f"rudder/pace/{run_key}/{rank}"
