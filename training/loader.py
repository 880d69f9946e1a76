"""The loader for people's own scripts, and for `rudder train`.

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
from rudder.training.loading.arguments import Course, TensorNames
from rudder.training.loading.loop import Loader
from rudder.training.loading.options import RunOptions, SamplingOptions
from rudder.training.partition_view import IntArray
from rudder.training.steering_options import SteeringOptions

__all__ = ["BufferOptions", "NodeLoader", "RunOptions", "SamplingOptions", "SteeringOptions"]

Minibatch = tuple[torch.Tensor, torch.Tensor, list[dgl.DGLGraph]]


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
            mutable: Those of `inputs` and `outputs` that the script writes while an epoch runs.
                They are not buffered, but read like `g.ndata[...]` when a batch is taken.
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
            nodes,
            sampler,
            course=Course.of(
                batch_size=batch_size,
                shuffle=shuffle,
                drop_last=drop_last,
                epochs=epochs,
                seed=seed,
            ),
            names=TensorNames.of(inputs=inputs, outputs=outputs, mutable=mutable),
            device=device,
            buffer=buffer if isinstance(buffer, BufferOptions) else BufferOptions(size=buffer),
            steering=steering,
            sampling=sampling or SamplingOptions(),
            run=run or RunOptions(),
        )

    def __iter__(self) -> Iterator[Minibatch]:
        """One epoch, as DistNodeDataLoader gives it: input nodes, seeds and blocks."""
        return ((batch.input_nodes, batch.seeds, batch.blocks) for batch in self.batches())
