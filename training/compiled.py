"""Loops compiled to machine code by numba, as typed functions.

A function is compiled at its first call with new argument types, and the result kept on disk
(beside the module, else in the user's cache folder, or in NUMBA_CACHE_DIR). While a compiled loop
runs it holds no Python lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

_P = ParamSpec("_P")
_R = TypeVar("_R")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a loop; its callers are checked against the Python signature."""
    return cast("Callable[_P, _R]", numba.njit(nogil=True, cache=True)(function))


def inlined(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a step of such loops, to be written out where it is called (same module only)."""
    return cast("Callable[_P, _R]", numba.njit(nogil=True, inline="always")(function))
