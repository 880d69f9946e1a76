"""Typed decorators for loops that numba compiles to machine code.

A function is compiled at its first call with new argument types, and the result is cached on disk
(beside the module, else in the user's cache folder, or in NUMBA_CACHE_DIR). A compiled loop runs
without the GIL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

_P = ParamSpec("_P")
_R = TypeVar("_R")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a loop; type checkers see its Python signature."""
    return cast("Callable[_P, _R]", numba.njit(nogil=True, cache=True)(function))


def inlined(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a step of such loops, inlined where it is called."""
    return cast("Callable[_P, _R]", numba.njit(nogil=True, inline="always")(function))
