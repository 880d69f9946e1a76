"""A sample of a trainer's accesses by hash, small enough to send with every window.

A remote node is in the sample if its hash is below the rate: in all batches that use it, or in
none. So reuse is preserved, and a buffer of `rate * capacity` rows behaves on the sample as one of
`capacity` rows on all accesses (Waldspurger et al., SHARDS, FAST 2015).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

NodeArray = NDArray[np.int32]


class AccessSlice(BaseModel):
    """The sampled remote numbers of a window's batches, in the order of use.

    rate: share of the nodes that are sampled; sizes: sampled nodes of each batch; nodes: their
    remote numbers, little-endian int32, zlib, base64.
    """

    model_config = ConfigDict(frozen=True)

    rate: float = Field(gt=0, le=1)
    sizes: tuple[int, ...]
    nodes: str

    @classmethod
    def of(cls, batches: Sequence[NodeArray], *, rate: float) -> AccessSlice:
        """Pack batches: int32[n] sampled remote numbers each."""
        joined = np.concatenate([np.empty(0, dtype=np.int32), *batches]).astype("<i4")
        packed = base64.b64encode(zlib.compress(joined.tobytes(), 1)).decode("ascii")
        return cls(rate=rate, sizes=tuple(len(batch) for batch in batches), nodes=packed)

    def batches(self) -> list[NodeArray]:
        """Unpack the batches; raises ValueError if the text is damaged."""
        try:
            content = zlib.decompress(base64.b64decode(self.nodes, validate=True))
        except zlib.error as error:
            raise ValueError(f"the access slice is damaged: {error}") from None
        joined = np.frombuffer(content, dtype="<i4").astype(np.int32)
        if len(joined) != sum(self.sizes):
            raise ValueError(f"the access slice has {len(joined)} nodes, not {sum(self.sizes)}")
        ends = np.cumsum(np.array(self.sizes, dtype=np.int64))[:-1]
        return list(np.split(joined, ends)) if self.sizes else []
