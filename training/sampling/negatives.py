"""Edges that are not there, for link prediction: what the model must tell from those that are.

Each class is a negative sampler as DGL's are, `sampler(graph, edges)`, so it works with DGL's
loaders, too. Rudder's loader draws the same ahead of the training loop, from the seed of a batch.
Like DGL's, they do not look whether a drawn edge happens to be there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rudder.training.errors import ConfigError
from rudder.training.partition_view import IntArray

__all__ = ["InBatchNegatives", "Negatives", "PerSourceNegatives", "UniformNegatives"]


@dataclass(frozen=True)
class Ends:
    """Ends of edges: int64[n] global ids of nodes."""

    sources: IntArray
    destinations: IntArray


@dataclass(frozen=True)
class Negatives:
    """Draws `k` edges for each edge of a batch, one edge's after the other's."""

    k: int

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            name = f"{type(self).__name__}.k"
            raise ConfigError.for_field(name, value=self.k, allowed="a whole number of at least 1")

    def draw(self, ends: Ends, *, num_nodes: int, random: np.random.Generator) -> Ends:
        """The edges drawn for a batch with these ends."""
        raise NotImplementedError

    def __call__(self, graph: Any, edges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As DGL's loaders call it; torch's generator decides."""
        sources, destinations = graph.find_edges(edges)
        random = np.random.default_rng(int(torch.randint(2**62, ())))
        ends = Ends(sources.numpy(), destinations.numpy())
        drawn = self.draw(ends, num_nodes=graph.num_nodes(), random=random)
        return torch.from_numpy(drawn.sources), torch.from_numpy(drawn.destinations)


class PerSourceNegatives(Negatives):
    """Keeps an edge's source, draws a destination from all nodes; as DGL's PerSourceUniform."""

    def draw(self, ends: Ends, *, num_nodes: int, random: np.random.Generator) -> Ends:
        """The edges drawn for a batch with these ends."""
        sources = np.repeat(ends.sources, self.k)
        return Ends(sources, random.integers(num_nodes, size=len(sources)))


class UniformNegatives(Negatives):
    """Draws source and destination from all nodes."""

    def draw(self, ends: Ends, *, num_nodes: int, random: np.random.Generator) -> Ends:
        """The edges drawn for a batch with these ends."""
        sources, destinations = random.integers(num_nodes, size=(2, len(ends.sources) * self.k))
        return Ends(sources, destinations)


class InBatchNegatives(Negatives):
    """Keeps an edge's source and takes the destination of another edge of the batch.

    No further node is needed, so batches are smaller. An edge that is alone in its batch gets
    destinations from all nodes.
    """

    def draw(self, ends: Ends, *, num_nodes: int, random: np.random.Generator) -> Ends:
        """The edges drawn for a batch with these ends."""
        size = len(ends.sources)
        if size < 2:
            return PerSourceNegatives(self.k).draw(ends, num_nodes=num_nodes, random=random)
        others = np.arange(size)[:, None] + random.integers(1, size, size=(size, self.k))
        return Ends(np.repeat(ends.sources, self.k), ends.destinations[(others % size).reshape(-1)])
