"""Which seeds make up which batch of an epoch."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from rudder.training.partition_view import IntArray


class SeedOrder:
    """Draws an epoch's batches: shuffled anew each time, within phases where seeds have some."""

    def __init__(
        self,
        nodes: IntArray,
        *,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        phases: IntArray | None,
        seed: tuple[int, ...] | None,
    ) -> None:
        """seed: of the order; None: torch's generator, drawn from as DGL's loader does."""
        self._nodes = nodes
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._phases = phases
        self._random = None if seed is None else np.random.default_rng(seed)
        self._places = np.arange(len(nodes))

    def __len__(self) -> int:
        """Batches of an epoch."""
        whole, rest = divmod(len(self._nodes), self._batch_size)
        return whole if self._drop_last or not rest else whole + 1

    def epoch(self) -> list[IntArray]:
        """The next epoch's batches of global ids."""
        if self._shuffle:
            self._shuffle_places()
        places = self._places
        if self._phases is not None:
            places = places[np.argsort(self._phases[places], kind="stable")]
        nodes, size = self._nodes[places], self._batch_size
        return [nodes[i * size : (i + 1) * size] for i in range(len(self))]

    def _shuffle_places(self) -> None:
        if self._random is None:
            self._places = self._places[torch.randperm(len(self._places)).numpy()]
        else:
            self._places = self._random.permutation(len(self._places))


def seed_from_torch() -> int:
    """A seed that depends on the state of torch's generator, which it leaves as it is."""
    return zlib.crc32(torch.get_rng_state().numpy().tobytes())
