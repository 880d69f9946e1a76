"""DGL's files of named tensors (`node_feat.dgl`), seen without loading them and without DGL.

A file has a magic number, the names, and for each name a header and the raw numbers. The tensors
are mapped into memory: only what is looked at is read.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rudder.training.errors import DataError

Array = npt.NDArray[Any]

_FILE_MAGIC = 0xDD5A9FBE3FA2443F
_TENSOR_MAGIC = 0xDD5E40F096B4A13F
_KINDS = {0: "int", 1: "uint", 2: "float"}
_NAME_BYTES = 4096
"""More than any name has; a longer one is damage."""


def tensors_of(path: Path) -> dict[str, Array]:
    """The tensors of a file by their names, read-only; raises DataError if it is no such file.

    DGL stores bool as uint8. Tensors of a type that numpy lacks (bfloat16) are refused.
    """
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return dict(sorted(_Reader(content).tensors(), key=lambda pair: pair[0]))
    except (OSError, ValueError, TypeError, struct.error) as error:
        raise DataError(
            f"{path} is not a readable file of tensors: {error}",
            remedy="write the partition again; DGL's save_tensors writes such files",
        ) from None


class _Reader:
    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._at = content, 0

    def tensors(self) -> list[tuple[str, Array]]:
        if self._take("<Q") != _FILE_MAGIC:
            raise ValueError("it does not begin as such a file does")
        num_tensors = self._take("<Q")
        if self._take("<Q") != num_tensors:
            raise ValueError("it is damaged at byte 16")
        return [(self._name(), self._tensor()) for _ in range(num_tensors)]

    def _take(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self._content, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def _name(self) -> str:
        length = self._take("<Q")
        if length > _NAME_BYTES:
            raise ValueError(f"it is damaged at byte {self._at - 8}")
        self._at += length
        return self._content[self._at - length : self._at].decode()

    def _tensor(self) -> Array:
        begin = self._at
        if self._take("<Q") != _TENSOR_MAGIC:
            raise ValueError(f"it is damaged at byte {begin}")
        self._at += 16  # reserved, and the device
        num_axes = self._take("<i")
        code, bits, _ = self._take("<B"), self._take("<B"), self._take("<H")
        shape = tuple(self._take("<q") for _ in range(num_axes))
        num_bytes = self._take("<q")
        if code not in _KINDS:
            raise ValueError(f"a tensor has a type of {bits} bits that numpy lacks")
        dtype = np.dtype(f"{_KINDS[code]}{bits}")
        if min(shape, default=0) < 0 or num_bytes != dtype.itemsize * math.prod(shape):
            raise ValueError(f"it is damaged at byte {begin}")
        self._at += num_bytes
        if self._at > len(self._content):
            raise ValueError(f"it is cut off after {len(self._content):,} bytes")
        flat = np.frombuffer(self._content, dtype, math.prod(shape), self._at - num_bytes)
        return flat.reshape(shape)
