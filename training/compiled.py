"""Typed decorators for loops that numba compiles to machine code, and a prefetch instruction.

A function is compiled at its first call with new argument types, and the result is cached on disk:
in NUMBA_CACHE_DIR, else beside the module, else in the user's cache folder, else in a temporary
folder of the user's (containers, clusters), which begins with what is beside the module. Where none
of them can be written, every process compiles anew. A compiled loop runs without the GIL.

Buffer policies touch a few records per input, which are scattered over memory. If they are
prefetched some inputs ahead, they arrive while the loop works on others.
"""

from __future__ import annotations

import functools
import inspect
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import numba
from numba.core import cgutils, types
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

from rudder.training.errors import complain
from rudder.training.local_disk import own_folder
from rudder.training.versions import DISTRIBUTION, installed_version

_P = ParamSpec("_P")
_R = TypeVar("_R")
TEMPORARY_PREFIX = "rudder-kernels-"
"""What names of temporary folders of compiled loops begin with."""


def compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a loop; type checkers see its Python signature."""
    loop: Any = numba.njit(nogil=True)(function)
    if (cache := _cache_of(function)) is not None:
        loop._cache = cache
    return cast("Callable[_P, _R]", loop)


def cache_folder_of(loop: Any) -> Path | None:
    """Where the machine code of a compiled loop is kept; None where it is not kept."""
    path = loop.stats.cache_path
    return None if path is None else Path(path)


class _KernelCache(FunctionCache):
    """numba's cache on disk; a loop that cannot be kept, as on a full disk, is used anyway."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raise RuntimeError where no folder can be written."""
        super().__init__(function)  # type: ignore[no-untyped-call]  # numba is typed in part

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled loop, if the folder can be written."""
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except OSError as error:
            _complain_once(f"{self.cache_path} cannot be written ({error.strerror})")


def _cache_of(function: Callable[..., Any]) -> _KernelCache | None:
    """The cache in the first folder that can be written; None where there is none."""
    try:
        return _KernelCache(function)
    except RuntimeError:  # numba finds no such folder
        folder = temporary_cache()
    if folder is None:
        return None
    config: Any = numba.config
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
    try:
        cache = _KernelCache(function)
    except RuntimeError:
        return None
    finally:
        config.CACHE_DIR = before
    _copy_shipped(Path(inspect.getfile(function)).parent / "__pycache__", Path(cache.cache_path))
    return cache


@functools.cache
def _copy_shipped(shipped: Path, folder: Path) -> None:
    """Copy what an image of a container brings: loops compiled beside the modules."""
    for path in (*shipped.glob("*.nbc"), *shipped.glob("*.nbi")):
        if (folder / path.name).exists():
            continue
        partial = folder / f".{path.name}.{os.getpid()}"
        try:
            shutil.copyfile(path, partial)
            partial.replace(folder / path.name)
        except OSError:
            return


@functools.cache
def temporary_cache() -> Path | None:
    """The folder for compiled loops of this user and version in the temporary folder.

    It is made if need be, and that is told. numba runs what it finds there, so a folder in which
    others may write is not used: the result is None.
    """
    version = installed_version(DISTRIBUTION) or "unknown"
    try:
        folder = Path(tempfile.gettempdir(), f"{TEMPORARY_PREFIX}{os.getuid()}-{version}")
        is_new = own_folder(folder)
    except OSError as error:
        _complain_once(f"no folder for them can be written ({error.strerror or error})")
        return None
    if is_new:
        complain(
            "rudder: neither the package folder nor the home folder can be written; compiled loops"
            f" are kept in {folder}. Set NUMBA_CACHE_DIR to keep them elsewhere."
        )
    return folder


@functools.cache
def _complain_once(reason: str) -> None:
    complain(f"rudder: compiled loops are not kept, and each process compiles them anew: {reason}")


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
