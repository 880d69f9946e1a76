"""Which seeds make up which batch of an epoch, and what decides their draws."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch

from rudder.training.loading.arguments import Course
from rudder.training.partition_view import IntArray
from rudder.training.sampling.neighbor import draw_key


@dataclass(frozen=True)
class SeedBatch:
    """A batch before it is sampled.

    seeds: int64[n], ids of nodes, or places in a loader's list of edges; draw_key: 64 bits that
    decide which in-edges are drawn for it.
    """

    seeds: IntArray
    draw_key: int


class SeedOrder:
    """Draws an epoch's batches: shuffled anew each time, within phases where seeds have some.

    An epoch's order and draws depend on `seed` and the epoch's number alone.
    """

    def __init__(
        self,
        nodes: IntArray,
        course: Course,
        *,
        phases: IntArray | None,
        seed: tuple[int, ...],
    ) -> None:
        """Without `course.seed`, torch's generator orders the seeds, as in DGL's loader."""
        self._nodes = nodes
        self._course = course
        self._phases = phases
        self._seed = seed
        self._places = np.arange(len(nodes))

    def __len__(self) -> int:
        """Batches of an epoch."""
        whole, rest = divmod(len(self._nodes), self._course.batch_size)
        return whole if self._course.drop_last or not rest else whole + 1

    def epoch(self, number: int) -> list[SeedBatch]:
        """The batches of an epoch, counted from 0."""
        if self._course.shuffle:
            self._shuffle_places(number)
        places = self._places
        if self._phases is not None:
            places = places[np.argsort(self._phases[places], kind="stable")]
        nodes, size = self._nodes[places], self._course.batch_size
        return [
            SeedBatch(nodes[i * size : (i + 1) * size], draw_key(*self._seed, number, i))
            for i in range(len(self))
        ]

    def _shuffle_places(self, epoch: int) -> None:
        if self._course.seed is None:
            self._places = self._places[torch.randperm(len(self._places)).numpy()]
        else:
            random = np.random.default_rng((*self._seed, epoch))
            self._places = random.permutation(len(self._places))


def seed_from_torch() -> int:
    """A seed that depends on the state of torch's generator, which it leaves as it is."""
    return zlib.crc32(torch.get_rng_state().numpy().tobytes())
