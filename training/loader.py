"""The loaders for people's own scripts, and for `rudder train`.

Three lines take the place of `DistNodeDataLoader` and of the reads of `g.ndata[...]`:

    from rudder.training.loader import NodeLoader
    loader = NodeLoader(g, train_nid, sampler, batch_size=512, inputs=["feat"], outputs=["label"])
    for input_nodes, seeds, blocks in loader:
        x, y = blocks[0].srcdata["feat"], blocks[-1].dstdata["label"]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dgl
import torch

from rudder.training.buffer.options import BufferOptions
from rudder.training.config import AUTO, BufferSize
from rudder.training.errors import ConfigError
from rudder.training.loading import arguments
from rudder.training.loading.arguments import Course, TensorNames
from rudder.training.loading.loop import Loader
from rudder.training.loading.options import RunOptions, SamplingOptions
from rudder.training.loading.seeds import EdgeRules, EdgeSeeds, NodeSeeds
from rudder.training.partition_view import IntArray
from rudder.training.sampling.edge_split import EdgeSplit
from rudder.training.sampling.negatives import (
    InBatchNegatives,
    PerSourceNegatives,
    UniformNegatives,
)
from rudder.training.steering_options import SteeringOptions

__all__ = [
    "BufferOptions",
    "EdgeLoader",
    "EdgeSplit",
    "InBatchNegatives",
    "NodeLoader",
    "PerSourceNegatives",
    "RunOptions",
    "SamplingOptions",
    "SteeringOptions",
    "UniformNegatives",
]

Minibatch = tuple[torch.Tensor, torch.Tensor, list[dgl.DGLGraph]]
EdgeMinibatch = (
    tuple[torch.Tensor, dgl.DGLGraph, list[dgl.DGLGraph]]
    | tuple[torch.Tensor, dgl.DGLGraph, dgl.DGLGraph, list[dgl.DGLGraph]]
)


class NodeLoader(Loader):
    """Iterates over minibatches and fetches ahead of the training loop. One loop is one epoch.

    A thread of the loader's fetches the batches. Meanwhile the script may use DistTensors, DGL's
    samplers and further loaders as if there were no such thread. The thread ends with `close()`,
    when the loader is no longer used, or when Python exits.
    """

    def __init__(
        self,
        graph: Any,
        nodes: torch.Tensor | IntArray | Sequence[int],
        sampler: Any,
        *,
        batch_size: int,
        shuffle: bool = True,
        drop_last: bool = False,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        edge_inputs: Sequence[str] = (),
        mutable: Sequence[str] = (),
        epochs: int | None = None,
        seed: int | None = None,
        device: str | torch.device = "cpu",
        buffer: BufferOptions | BufferSize | str | float = AUTO,
        steering: SteeringOptions | None = None,
        sampling: SamplingOptions | None = None,
        run: RunOptions | None = None,
    ) -> None:
        """Prepare; nothing is fetched before the first epoch.

        Args:
            graph: dgl.distributed.DistGraph with one type of node and one type of edge.
            nodes: int64[n], the seeds of this trainer.
            sampler: A dgl.dataloading.NeighborSampler that draws uniformly without replacement is
                replaced by Rudder's own faster code; any other block sampler is called as it is.
            batch_size: Seeds per batch.
            shuffle: Whether each epoch visits the seeds in a new random order.
            drop_last: Whether a last batch with fewer seeds is left out.
            inputs: Names of node tensors to deliver for input nodes, in `blocks[0].srcdata`.
            outputs: Names of node tensors to deliver for seeds, in `blocks[-1].dstdata`.
            edge_inputs: Names of edge tensors to deliver for the edges of all blocks, in
                `block.edata`.
            mutable: Those of all these names that the script writes while an epoch runs. They are
                not buffered, but read like `g.ndata[...]` when a batch is taken.
            epochs: Number of epochs. If it is given, the sampler runs ahead into the next epoch.
            seed: Seed of order and sampling. None: both follow torch's generator, so
                `torch.manual_seed` sets them; without `epochs` the order is DistNodeDataLoader's.
                DGL's own servers follow no seed; docs/own-script.md says what does.
            device: Device to which batches are moved.
            buffer: Options of the buffer, or its size alone: `buffer=0.25`.
            steering: Starts a controller process with these options, which steers this loader.
            sampling: Options of the order and of the blocks that are rarely set.
            run: Where the loader listens and writes.

        Raises:
            ConfigError: An argument is outside its range.
            DataError: The graph or a node tensor cannot be used.
            MachineError: The machine lacks memory, or the socket cannot be opened.
            RunError: A server or another trainer failed.
        """
        super().__init__(
            graph,
            sampler,
            seeds_of=lambda view: NodeSeeds(
                arguments.seed_ids("nodes", nodes, below=view.num_nodes)
            ),
            course=Course.of(
                batch_size=batch_size,
                shuffle=shuffle,
                drop_last=drop_last,
                epochs=epochs,
                seed=seed,
            ),
            names=TensorNames.of(
                of_edges=False,
                inputs=inputs,
                outputs=outputs,
                edge_inputs=edge_inputs,
                mutable=mutable,
            ),
            device=device,
            buffer=buffer if isinstance(buffer, BufferOptions) else BufferOptions(size=buffer),
            steering=steering,
            sampling=sampling or SamplingOptions(),
            run=run or RunOptions(),
        )

    def __iter__(self) -> Iterator[Minibatch]:
        """One epoch, as DistNodeDataLoader gives it: input nodes, seeds and blocks."""
        return ((batch.input_nodes, batch.seeds, batch.blocks) for batch in self.batches())


class EdgeLoader(Loader):
    """Iterates over minibatches of edges, in place of `DistEdgeDataLoader`; else as NodeLoader.

    For classes or values of edges it gives input nodes, the pair graph of the batch's edges, and
    blocks. With a negative sampler, for link prediction, a second pair graph of negative edges
    comes before the blocks. Blocks end at the nodes of the pair graphs.
    """

    def __init__(
        self,
        graph: Any,
        edges: torch.Tensor | IntArray | Sequence[int],
        sampler: Any,
        *,
        batch_size: int,
        exclude: Any = None,
        reverse_eids: torch.Tensor | IntArray | None = None,
        negative_sampler: Any = None,
        held_out: EdgeSplit | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        edge_inputs: Sequence[str] = (),
        mutable: Sequence[str] = (),
        epochs: int | None = None,
        seed: int | None = None,
        device: str | torch.device = "cpu",
        buffer: BufferOptions | BufferSize | str | float = AUTO,
        steering: SteeringOptions | None = None,
        sampling: SamplingOptions | None = None,
        run: RunOptions | None = None,
    ) -> None:
        """Prepare, and look up the ends of all edges once.

        What is not said here is as in NodeLoader, with edges as the seeds.

        Args:
            graph: dgl.distributed.DistGraph with one type of node and one type of edge.
            edges: int64[n], the edges of this trainer, as `dgl.distributed.edge_split` gives them.
            sampler: As in NodeLoader, or the result of `dgl.dataloading.as_edge_prediction_sampler`
                with its own exclude, reverse_eids and negative_sampler.
            batch_size: Edges per batch, negative ones not counted.
            exclude: Edges that are not sampled as neighbours: "self", the batch's edges;
                "reverse_id", also those that `reverse_eids` names; "ends", all edges between their
                two ends, in both directions; int64 ids; or a function of a batch's edge ids that
                returns ids. None: nothing. They are dropped after the draw.
            reverse_eids: int64[edges of the graph], the reverse of each edge.
            negative_sampler: PerSourceUniform of DGL, or one of Rudder's (UniformNegatives,
                PerSourceNegatives, InBatchNegatives): drawn ahead, from the loader's seed. Any
                other function of graph and edge ids is called as it is.
            held_out: Edges of its validation and test sets are never sampled as neighbours.
            inputs: Names of node tensors to deliver for input nodes, in `blocks[0].srcdata`.
            outputs: Names of edge tensors to deliver for the batch's edges, in `pair_graph.edata`.

        Raises:
            ConfigError, DataError, MachineError, RunError: As NodeLoader.
        """
        if isinstance(sampler, dgl.dataloading.EdgePredictionSampler):
            if any(each is not None for each in (exclude, reverse_eids, negative_sampler)):
                raise ConfigError(
                    "exclude, reverse_eids and negative_sampler are given twice",
                    remedy="pass them to as_edge_prediction_sampler, or pass a plain sampler",
                )
            exclude, reverse_eids = sampler.exclude, sampler.reverse_eids
            negative_sampler, sampler = sampler.negative_sampler, sampler.sampler
        rules = EdgeRules.of(
            exclude=exclude,
            reverse_eids=reverse_eids,
            negatives=negative_sampler,
            held_out=held_out,
        )
        rules.check(sampler)
        sampling = sampling or SamplingOptions()
        super().__init__(
            graph,
            sampler,
            seeds_of=lambda _: EdgeSeeds(
                graph, arguments.seed_ids("edges", edges, below=graph.num_edges()), rules
            ),
            course=Course.of(
                batch_size=batch_size,
                shuffle=shuffle,
                drop_last=drop_last,
                epochs=epochs,
                seed=seed,
            ),
            names=TensorNames.of(
                of_edges=True,
                inputs=inputs,
                outputs=outputs,
                edge_inputs=edge_inputs,
                mutable=mutable,
            ),
            device=device,
            buffer=buffer if isinstance(buffer, BufferOptions) else BufferOptions(size=buffer),
            steering=steering,
            sampling=sampling.model_copy(update={"edge_ids": True}) if rules.is_by_id else sampling,
            run=run or RunOptions(),
        )

    def __iter__(self) -> Iterator[EdgeMinibatch]:
        """One epoch, as DistEdgeDataLoader gives it."""
        for batch in self.batches():
            assert batch.pair_graph is not None
            if batch.negative_graph is None:
                yield batch.input_nodes, batch.pair_graph, batch.blocks
            else:
                yield batch.input_nodes, batch.pair_graph, batch.negative_graph, batch.blocks
