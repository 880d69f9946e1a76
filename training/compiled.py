"""Typed decorators for loops that numba compiles to machine code, and a prefetch instruction.

A function is compiled at its first call with new argument types, and the result is cached on disk
(beside the module, else in the user's cache folder, or in NUMBA_CACHE_DIR). A compiled loop runs
without the GIL.

Buffer policies touch a few records per input, which are scattered over memory. If they are
prefetched some inputs ahead, they arrive while the loop works on others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import numba
from numba.core import cgutils, types
from numba.extending import intrinsic

_P = ParamSpec("_P")
_R = TypeVar("_R")


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a loop; type checkers see its Python signature."""
    return cast("Callable[_P, _R]", numba.njit(nogil=True, cache=True)(function))


def inlined(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a step of such loops, inlined where it is called."""
    return cast("Callable[_P, _R]", numba.njit(nogil=True, inline="always")(function))


AHEAD = 16
"""Steps of a short loop in which a record arrives from memory."""

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    def prefetch(array: NDArray[np.generic], index: int) -> None:
        """Request array[index] for writing; an index outside the array is harmless."""

else:

    @intrinsic
    def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
        """Request array[index] for writing; an index outside the array is harmless."""
        from llvmlite import ir

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array_type, _ = signature.args
            parts = context.make_array(array_type)(context, builder, arguments[0])
            place = builder.ptrtoint(parts.data, ir.IntType(64))
            offset = builder.mul(arguments[1], parts.itemsize)
            pointer = builder.inttoptr(builder.add(place, offset), ir.IntType(8).as_pointer())
            number = ir.IntType(32)
            called = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number]),
                "llvm.prefetch.p0i8",
            )
            builder.call(called, [pointer, number(1), number(3), number(1)])
            return context.get_dummy_value()

        return types.none(array, types.int64), generate
