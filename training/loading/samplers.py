"""Samplers of the user's: drawn by our own fast code where it draws the same, else called."""

from __future__ import annotations

from typing import Any

import dgl
import torch

from rudder.training.loading.batch import WholeSample
from rudder.training.loading.sampling_stage import SampleWhole
from rudder.training.partition_view import IntArray

_UNIFORM = (dgl.dataloading.NeighborSampler, dgl.dataloading.MultiLayerFullNeighborSampler)


def uniform_fanouts(sampler: Any) -> tuple[int, ...] | None:
    """Fan-outs, input layer first, of a uniform sampler without replacement; None for others."""
    if (
        type(sampler) not in _UNIFORM
        or sampler.edge_dir != "in"
        or sampler.prob is not None
        or sampler.replace
        or not all(isinstance(fanout, int) for fanout in sampler.fanouts)
    ):
        return None
    return tuple(sampler.fanouts)


def sample_whole(sampler: Any, graph: Any) -> SampleWhole:
    """A way to call any `dgl.dataloading` block sampler on a DistGraph."""

    def sample(seeds: IntArray) -> WholeSample:
        input_nodes, _, blocks = sampler.sample(graph, torch.from_numpy(seeds))
        return WholeSample(nodes=input_nodes.numpy(), blocks=tuple(blocks))

    return sample
