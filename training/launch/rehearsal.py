"""Tries what only torch can check, before any process of a run starts: a person's own model.

It runs in a process of its own, `python -m rudder.training.launch.rehearsal`, so that neither
torch nor a person's file is imported by the launcher.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from rudder.training.config import RunConfig
from rudder.training.errors import ConfigError, RudderError
from rudder.training.model.own import MODEL_NAMES, OwnModel
from rudder.training.partitioned_graph import PartitionedGraph
from rudder.training.settings import Frozen

if TYPE_CHECKING:
    from torch import nn

_SEEDS = 3


class _Request(Frozen):
    config: RunConfig
    graph: PartitionedGraph


class _Problem(Frozen):
    message: str
    remedy: str


def check_training(config: RunConfig, graph: PartitionedGraph) -> None:
    """Raise ConfigError where the run's model cannot be built, or cannot train.

    A run with nothing but what Rudder brings is not tried.
    """
    if config.model in MODEL_NAMES:
        return
    request = _Request(config=config, graph=graph).model_dump_json()
    argv = [sys.executable, "-m", "rudder.training.launch.rehearsal"]
    try:
        done = subprocess.run(
            argv,
            input=request,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=config.start_timeout,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"model = {config.model!r} is not built within {config.start_timeout:g} s",
            remedy="find what it waits for, or give it longer with --start-timeout",
        ) from None
    if done.returncode == 0:
        return
    if not done.stdout:
        raise ConfigError(
            f"model = {config.model!r} ended the process that tried it (exit code"
            f" {done.returncode})",
            remedy="import and call it in Python; what it wrote stands above",
        )
    problem = _Problem.model_validate_json(done.stdout)
    raise ConfigError(problem.message, remedy=problem.remedy)


def rehearse(config: RunConfig, graph: PartitionedGraph) -> None:
    """One training step on a few made-up nodes, on the CPU.

    Raises ConfigError where the model cannot be built or run, or its output has a wrong shape.
    """
    from rudder.training.model.models import ModelOptions, build_model
    from rudder.training.model.task import make_task

    width = make_task(graph).num_outputs
    model = build_model(
        config.model,
        in_dim=graph.feature_dim,
        num_classes=width,
        options=ModelOptions.of(config),
    )
    own = OwnModel.parse(config.model)
    if own is not None:
        with own.running():
            _step(model, own, in_dim=graph.feature_dim, width=width, layers=config.layers)


def _step(model: nn.Module, own: OwnModel, *, in_dim: int, width: int, layers: int) -> None:
    import torch

    blocks = [_block(num_dst=_SEEDS + above) for above in reversed(range(layers))]
    model.train()
    outputs = model(blocks, torch.randn(_SEEDS + layers, in_dim))
    shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if shape != (_SEEDS, width):
        raise ConfigError(
            f"model = {str(own)!r} returns {shape} for {_SEEDS} seeds, not {(_SEEDS, width)}",
            remedy="have it return a row for each seed (destination node of the last block) and"
            " a column for each class",
        )
    outputs.sum().backward()


def _block(*, num_dst: int) -> Any:
    """A block with one more source node than destination nodes; all of these have two in-edges."""
    import dgl
    import torch

    nodes = torch.arange(num_dst)
    block = dgl.create_block(
        (torch.cat([nodes, nodes + 1]), torch.cat([nodes, nodes])),
        num_src_nodes=num_dst + 1,
        num_dst_nodes=num_dst,
    )
    block.srcdata[dgl.NID] = torch.arange(num_dst + 1)
    block.dstdata[dgl.NID] = nodes
    return block


def main() -> None:
    """Rehearse what standard input asks for; a problem goes to standard output as JSON."""
    request = _Request.model_validate_json(sys.stdin.read())
    out = os.dup(1)
    os.dup2(2, 1)  # what a person's file prints is no answer
    try:
        rehearse(request.config, request.graph)
    except RudderError as error:
        problem = {"message": error.message, "remedy": error.remedy}
        os.write(out, json.dumps(problem).encode())
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
