"""Which seeds make up which batch of an epoch."""

from __future__ import annotations

import numpy as np

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
        seed: tuple[int, ...],
    ) -> None:
        self._nodes = nodes
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._phases = phases
        self._random = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Batches of an epoch."""
        whole, rest = divmod(len(self._nodes), self._batch_size)
        return whole if self._drop_last or not rest else whole + 1

    def epoch(self) -> list[IntArray]:
        """The next epoch's batches of global ids."""
        places = np.arange(len(self._nodes))
        if self._shuffle:
            self._random.shuffle(places)
        if self._phases is not None:
            places = places[np.argsort(self._phases[places], kind="stable")]
        nodes, size = self._nodes[places], self._batch_size
        return [nodes[i * size : (i + 1) * size] for i in range(len(self))]
