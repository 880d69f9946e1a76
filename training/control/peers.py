"""The step timings of all ranks, exchanged through the key-value store of torch.distributed.

A rank writes under its own key and reads the others'. Each loader of a job has keys of its own.
Nothing here waits for a rank: a key that is read was made before, empty where its rank has not
written yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rudder.training.errors import complain
from rudder.training.metrics import AccessSlice, NodeArray, StepTiming, Window

_FIRST_LOOKS_AT_ONCE = 4
"""Ranks that are looked for at a time; each takes a round trip, once."""


class KeyValueStore(Protocol):
    """What is used of a store of torch.distributed."""

    def set(self, key: str, value: str, /) -> None:
        """Write a key."""

    def get(self, key: str, /) -> bytes:
        """Read a key, or wait for it."""

    def multi_get(self, keys: list[str], /) -> list[bytes]:
        """Read keys, or wait for them."""

    def compare_set(self, key: str, expected: str, desired: str, /) -> bytes:
        """Write where the key has `expected`, or is missing and that is empty; read it."""

    def add(self, key: str, more: int, /) -> int:
        """Add to a counter, and read it."""

    def has_extended_api(self) -> bool:
        """Whether there is `multi_get`."""


class Peers:
    """The other ranks' latest timings. An error ends the sharing, not the run."""

    def __init__(
        self,
        store: KeyValueStore | None = None,
        *,
        rank: int = 0,
        world_size: int = 1,
        run_key: str = "",
    ) -> None:
        """Use the store from one thread; without one, this rank knows of no other.

        run_key: of this loader's run, the same on all ranks.
        """
        self._store = store
        self._key = timing_key(run_key, rank)
        others = (other for other in range(world_size) if other != rank)
        self._unseen = [timing_key(run_key, other) for other in others]
        self._seen: list[str] = []

    def share(self, timing: StepTiming) -> tuple[StepTiming, ...]:
        """Tell the others this rank's step timing; returns theirs, as far as they are known."""
        if self._store is None:
            return ()
        try:
            self._store.set(self._key, timing.model_dump_json())
            self._look_for_others(self._store)
            texts = [text for text in _read(self._store, self._seen) if text]
            return tuple(StepTiming.model_validate_json(text) for text in texts)
        except (RuntimeError, OSError, ValueError) as error:
            self._store = None
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            complain(f"rudder: the ranks' step timings are no longer shared: {reason}")
            return ()

    def _look_for_others(self, store: KeyValueStore) -> None:
        """Make sure that some more keys exist, so that reading them never waits."""
        for _ in range(min(_FIRST_LOOKS_AT_ONCE, len(self._unseen))):
            key = self._unseen.pop(0)
            store.compare_set(key, "", "")
            self._seen.append(key)


def _read(store: KeyValueStore, keys: list[str]) -> list[bytes]:
    if keys and store.has_extended_api():
        return store.multi_get(keys)
    return [store.get(key) for key in keys]


def timing_key(run_key: str, rank: int) -> str:
    """Key of a rank's step timing in one loader's run."""
    return f"rudder/timing/{run_key}/{rank}"


@dataclass(frozen=True)
class SampledAccesses:
    """int32[n] sampled remote numbers of each batch of a window, and the share sampled."""

    rate: float
    batches: tuple[NodeArray, ...]


@dataclass(frozen=True)
class FinishedWindow:
    """A window as the training thread leaves it; the accesses are still to be packed into it."""

    window: Window
    accesses: SampledAccesses | None = None

    def completed(self, peers: Peers) -> Window:
        """The window that subscribers get, with accesses and the other ranks' step timings."""
        update: dict[str, object] = {}
        if (timing := self.window.timing) is not None:
            update["peers"] = peers.share(timing)
        if self.accesses is not None:
            update["accesses"] = AccessSlice.of(self.accesses.batches, rate=self.accesses.rate)
        return self.window.model_copy(update=update)
