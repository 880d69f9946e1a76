"""How far work is, where that can be counted."""

from __future__ import annotations

from collections.abc import Callable

from rudder.training.settings import Frozen


class Counted(Frozen):
    """Of `what`, such as `writing`, so many of a total are done, in a unit such as `parts`."""

    what: str
    done: int
    total: int
    unit: str


Count = Callable[[Counted], None]
"""Is told now and then."""


def uncounted(counted: Counted) -> None:
    """Nobody wants to know."""
