"""Step timings and turns of all ranks, exchanged through the key-value store of torch.distributed.

Ranks are told of each other in groups of whole hosts. A rank writes its own timing and a summary of
its group, and reads its group and the summaries of the others: 44 keys in a job of 512 ranks, where
reading all ranks took 511. No rank is needed for a summary, for each of the group writes it. Each
loader of a job has keys of its own. Nothing here waits for a rank: a key that is read was made
before, blank where nobody has written yet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rudder.training.errors import complain
from rudder.training.metrics import AccessSlice, NodeArray, StepTiming, Window
from rudder.training.turn import RankTurn

_FIRST_LOOKS_AT_ONCE = 8
"""Keys that are looked for at a time, each of them once."""
SMALL_JOB = 16
"""Ranks that are told of each other one by one."""


class KeyValueStore(Protocol):
    """What is used of a store of torch.distributed."""

    def set(self, key: str, value: str, /) -> None:
        """Write a key."""

    def get(self, key: str, /) -> bytes:
        """Read a key, or wait for it."""

    def multi_set(self, keys: list[str], values: list[str], /) -> None:
        """Write keys."""

    def multi_get(self, keys: list[str], /) -> list[bytes]:
        """Read keys, or wait for them."""

    def compare_set(self, key: str, expected: str, desired: str, /) -> bytes:
        """Write where the key has `expected`, or is missing and that is empty; read it."""

    def append(self, key: str, value: str, /) -> None:
        """Write behind what the key has, if anything."""

    def add(self, key: str, more: int, /) -> int:
        """Add to a counter, and read it."""

    def has_extended_api(self) -> bool:
        """Whether there are `append`, `multi_get` and `multi_set`."""


def ranks_per_group(world_size: int, *, trainers_on_host: int = 1) -> int:
    """Ranks of a group: whole hosts, and about as many ranks as there are groups."""
    hosts = -(-max(SMALL_JOB, math.isqrt(world_size - 1) + 1) // trainers_on_host)
    return hosts * trainers_on_host


class Peers:
    """The other ranks' latest timings. An error ends the sharing, not the run."""

    def __init__(
        self,
        store: KeyValueStore | None = None,
        *,
        rank: int = 0,
        world_size: int = 1,
        trainers_on_host: int = 1,
        run_key: str = "",
    ) -> None:
        """Use the store from one thread; without one, this rank knows of no other.

        run_key: of this loader's run, the same on all ranks.
        """
        self._store = store
        size = ranks_per_group(world_size, trainers_on_host=max(trainers_on_host, 1))
        groups, own = range(-(-world_size // size)), rank // size
        members = range(own * size, min((own + 1) * size, world_size))
        self._own_keys = [timing_key(run_key, rank)]
        self._is_small = len(groups) <= 1
        if not self._is_small:
            self._own_keys.append(summary_key(run_key, own))
        self._of_group = SharedKeys(timing_key(run_key, each) for each in members if each != rank)
        self._of_others = SharedKeys(summary_key(run_key, each) for each in groups if each != own)
        self._group: tuple[StepTiming, ...] = ()
        self._turn_key = f"rudder/{run_key}/turn"
        self._of_turn = SharedKeys([self._turn_key] if world_size > 1 else [])
        self._turn_text = b""

    @property
    def turn(self) -> RankTurn | None:
        """The job's newest, as far as this rank knows."""
        return _turn(self._turn_text)

    def share(self, timing: StepTiming) -> tuple[StepTiming, ...]:
        """Tell the others this rank's step timing; returns theirs, as far as they are known: one by
        one in a small job, else a summary of each group, without this rank."""
        if self._store is None:
            return ()
        try:
            return self._exchange(self._store, timing)
        except (RuntimeError, OSError, ValueError) as error:
            self._end(error)
            return ()

    def write_turn(self, turn: RankTurn, *, instead_of: RankTurn | None) -> RankTurn | None:
        """Put a turn in place of the newest, if that is `instead_of`; the newest then. None: there
        is no store."""
        if self._store is None:
            return None
        expected = "" if instead_of is None else instead_of.model_dump_json()
        if _turn(self._turn_text) == instead_of:
            expected = self._turn_text.decode()
        desired = turn.model_dump_json()
        try:
            text = self._store.compare_set(self._turn_key, expected, desired)
            if _turn(text) == instead_of:  # a rank that has looked for the key has added a blank
                text = self._store.compare_set(self._turn_key, text.decode(), desired)
            self._turn_text = text
            return _turn(text)
        except (RuntimeError, OSError, ValueError) as error:
            self._end(error)
            return None

    def _end(self, error: Exception) -> None:
        self._store, self._turn_text = None, b""
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        complain(f"rudder: the ranks' step timings are no longer shared: {reason}")

    def _exchange(self, store: KeyValueStore, timing: StepTiming) -> tuple[StepTiming, ...]:
        told = (timing, summary_of((timing, *self._group)))
        _write(store, self._own_keys, [_to_text(each) for each in told[: len(self._own_keys)]])
        near, far, turn = (
            keys.found(store) for keys in (self._of_group, self._of_others, self._of_turn)
        )
        texts = _read(store, [*turn, *near, *far])
        if turn:
            self._turn_text = texts[0]
        texts = texts[len(turn) :]
        self._group, others = _timings(texts[: len(near)]), _timings(texts[len(near) :])
        if self._is_small or not self._group:
            return (*self._group, *others)
        return (summary_of(self._group), *others)


class SharedKeys:
    """Keys of others, which exist before they are read, so that reading them never waits."""

    def __init__(self, keys: Iterable[str]) -> None:
        """keys: their names."""
        self._unseen, self._seen = list(keys), list[str]()

    def found(self, store: KeyValueStore) -> list[str]:
        """Those that exist, blank where nobody has written; some more are made each time."""
        looked_for = self._unseen[:_FIRST_LOOKS_AT_ONCE]
        for key in looked_for:
            _make(store, key)
        self._unseen = self._unseen[len(looked_for) :]
        self._seen += looked_for
        return self._seen


def summary_of(timings: Sequence[StepTiming]) -> StepTiming:
    """The timing of the rank that waits longest, for all of them."""
    ranks = sum(each.num_ranks for each in timings)
    slowest = max(timings, key=lambda each: each.exposed_wait_seconds)
    lowest = min(each.rank if each.lowest_rank is None else each.lowest_rank for each in timings)
    return slowest.model_copy(update={"num_ranks": ranks, "lowest_rank": lowest})


def _make(store: KeyValueStore, key: str) -> None:
    """Have a key exist, blank where nobody has written it."""
    if store.has_extended_api():
        store.append(key, " ")  # what is empty takes a TCPStore 0.2 s
    else:
        store.compare_set(key, "", "")


def _write(store: KeyValueStore, keys: list[str], values: list[str]) -> None:
    if len(keys) > 1 and store.has_extended_api():
        store.multi_set(keys, values)
        return
    for key, value in zip(keys, values, strict=True):
        store.set(key, value)


def _read(store: KeyValueStore, keys: list[str]) -> list[bytes]:
    if keys and store.has_extended_api():
        return store.multi_get(keys)
    return [store.get(key) for key in keys]


def _to_text(timing: StepTiming) -> str:
    """In whole microseconds, to keep the store's values and the windows that show them short."""
    step, wait = timing.step_seconds, timing.exposed_wait_seconds
    who = f"{timing.rank} {timing.num_ranks} {timing.lowest_rank or 0}"
    return f"{who} {timing.window} {step * 1e6:.0f} {wait * 1e6:.0f}"


def _timings(texts: Sequence[bytes]) -> tuple[StepTiming, ...]:
    """Those of the ranks that have told; raises ValueError where a text is none."""
    told = [[int(part) for part in text.split()] for text in texts if text.strip()]
    return tuple(
        StepTiming(
            rank=rank,
            window=window,
            step_seconds=step_us / 1e6,
            exposed_wait_seconds=wait_us / 1e6,
            num_ranks=num_ranks,
            lowest_rank=lowest if num_ranks > 1 else None,
        )
        for rank, num_ranks, lowest, window, step_us, wait_us in told
    )


def _turn(text: bytes) -> RankTurn | None:
    return RankTurn.model_validate_json(text) if text.strip() else None


def timing_key(run_key: str, rank: int) -> str:
    """Key of a rank's step timing in one loader's run."""
    return f"rudder/{run_key}/{rank}"


def summary_key(run_key: str, group: int) -> str:
    """Key of the summary of a group of ranks."""
    return f"rudder/{run_key}/g{group}"


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
        """The window that subscribers get, with accesses and what the other ranks have told."""
        update: dict[str, object] = {}
        if (timing := self.window.timing) is not None:
            update |= {"peers": peers.share(timing), "turn": peers.turn}
        if self.accesses is not None:
            update["accesses"] = AccessSlice.of(self.accesses.batches, rate=self.accesses.rate)
        return self.window.model_copy(update=update)
