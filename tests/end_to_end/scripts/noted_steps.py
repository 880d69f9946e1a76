"""A program that trains as always, and notes each step of a rank in `RUN/steps<rank>.txt`."""

from __future__ import annotations

import zlib

import torch

from rudder.training.events import Emit
from rudder.training.job import Job
from rudder.training.loading.batch import Batch
from rudder.training.process import program


def start_controllers(job: Job, *, rank: int) -> None:
    """As always."""
    program.start_controllers(job, rank=rank)


def run(job: Job, *, rank: int, emit: Emit) -> None:
    """Train; a line of the file has a step's number, its loss and a checksum of its batch."""
    from rudder.training import trainer

    train_step = trainer.TrainingLoop._train_step
    with (job.run_dir / f"steps{rank}.txt").open("a", buffering=1) as lines:

        def noted(loop: trainer.TrainingLoop, batch: Batch) -> torch.Tensor | None:
            loss = train_step(loop, batch)
            assert loss is not None
            lines.write(f"{batch.number} {float(loss).hex()} {checksum(batch)}\n")
            return loss

        setattr(trainer.TrainingLoop, "_train_step", noted)  # noqa: B010
        program.run(job, rank=rank, emit=emit)


def checksum(batch: Batch) -> int:
    """Of seeds, input nodes, structure and rows; of edges instead of labels where it has them."""
    crc = 0
    for tensor in (
        batch.seeds,
        batch.input_nodes,
        *(each for block in batch.blocks for each in block.adj_tensors("csc")),
        *(batch.blocks[0].srcdata[name] for name in ("feat", "_ID")),
        *pairs_of(batch),
    ):
        crc = zlib.crc32(tensor.contiguous().numpy().tobytes(), crc)
    return crc


def pairs_of(batch: Batch) -> list[torch.Tensor]:
    """Labels of a batch of nodes; ends of a batch's edges and negative edges."""
    if batch.pair_graph is None or batch.negative_graph is None:
        return [batch.blocks[-1].dstdata["label"]]
    return [*batch.pair_graph.edges(), *batch.negative_graph.edges()]
