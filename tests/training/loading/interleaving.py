"""Runs threads one at a time; a seed decides who goes on at each point where they could change.

Points are every use of a condition, and every call of `Turns.point`. A wait may end at any time,
as waits with a time-out do, so a thread that waits for what never comes is found by its turns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

MAX_TURNS = 20_000
"""More than any test needs: whoever takes more waits for ever."""


class HangsError(AssertionError):
    """Some thread waits for ever."""


class Turns:
    """The order in which threads run. Stands in for `threading` in the module under test."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self._gates = {threading.get_ident(): threading.Semaphore(0)}
        self._num_turns = 0
        self.threading = SimpleNamespace(
            Condition=lambda: _Condition(self),
            Thread=lambda **options: _Thread(self, **options),
            current_thread=threading.current_thread,
            local=threading.local,
        )

    def point(self) -> None:
        """Another thread may go on here."""
        self._num_turns += 1
        if self._num_turns > MAX_TURNS:
            raise HangsError
        self._pass_on(self.random.choice(list(self._gates)))

    def start(self, target: Callable[[], None]) -> _Thread:
        """A thread that takes turns with the others."""
        thread = _Thread(self, target=target)
        thread.start()
        return thread

    def enter(self) -> None:
        """The calling thread waits for its first turn; whoever started it is to call `admit`."""
        self._gates[threading.get_ident()].acquire()

    def admit(self, ident: int) -> None:
        self._gates[ident] = threading.Semaphore(0)

    def leave(self) -> None:
        """The calling thread takes no more turns."""
        del self._gates[threading.get_ident()]
        self._gates[self.random.choice(list(self._gates))].release()

    def _pass_on(self, to: int) -> None:
        me = threading.get_ident()
        if to != me:
            mine = self._gates[me]
            self._gates[to].release()
            mine.acquire()


class _Thread:
    """A thread that waits for its turns; `join` takes turns, too."""

    def __init__(self, turns: Turns, *, target: Callable[[], None], **_: Any) -> None:
        self._turns, self._target = turns, target
        self._is_over = False
        self._may_enter = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def ident(self) -> int | None:
        return self._thread.ident

    def start(self) -> None:
        self._thread.start()
        assert self.ident is not None
        self._turns.admit(self.ident)
        self._may_enter.set()

    def _run(self) -> None:
        self._may_enter.wait()
        self._turns.enter()
        try:
            self._target()
        finally:
            self._is_over = True
            self._turns.leave()

    def join(self) -> None:
        while not self._is_over:
            self._turns.point()


class _Condition:
    """A condition whose waits end at any time; reentrant."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        self._turns.point()
        me = threading.get_ident()
        while self._owner not in (None, me):
            self._turns.point()
        self._owner, self._depth = me, self._depth + 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
        self._turns.point()

    def wait(self, timeout: float | None = None) -> None:
        depth, self._depth, self._owner = self._depth, 0, None
        self._turns.point()
        me = threading.get_ident()
        while self._owner is not None:
            self._turns.point()
        self._owner, self._depth = me, depth

    def notify_all(self) -> None:
        """Nobody needs to be told: waits end by themselves."""
