"""Tries out model, optimiser and metric before any process of a run starts.

It runs in a process of its own, `python -m rudder.training.launch.rehearsal`, so that neither
torch nor a person's file is imported by the launcher.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from rudder.training.config import RunConfig
from rudder.training.errors import ConfigError, MachineError, RudderError
from rudder.training.model.own import OwnModel
from rudder.training.partitioned_graph import PartitionedGraph
from rudder.training.settings import Frozen

if TYPE_CHECKING:
    from torch import nn

_SEEDS = 3
_TRIED = ("model", "optimizer", "scheduler", "metric", "class_weights", "device")
"""Options that only torch can check."""


class _Request(Frozen):
    config: RunConfig
    graph: PartitionedGraph


class _Problem(Frozen):
    message: str
    remedy: str
    exit_code: int


def check_training(config: RunConfig, graph: PartitionedGraph) -> None:
    """Raise ConfigError where the run's model, optimiser, schedule or metric cannot be made.

    MachineError where there is no GPU for `device = cuda`. Defaults are not tried.
    """
    if config.follows_validation and graph.val_mask is None:
        raise ConfigError(
            "early_stop and plateau need a validation set; this graph has no validation node",
            remedy="leave them out, or give the graph a val_mask",
        )
    tried = {name: getattr(config, name) for name in _TRIED}
    if all(value == RunConfig.model_fields[name].default for name, value in tried.items()):
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
    error = ConfigError(problem.message, remedy=problem.remedy)
    error.exit_code = problem.exit_code
    raise error


def try_training(config: RunConfig, graph: PartitionedGraph) -> None:
    """One training step on a few made-up nodes, on the CPU.

    Raises ConfigError where something cannot be made or run, or the output has a wrong shape.
    """
    from rudder.training.model.models import ModelOptions, build_model
    from rudder.training.model.optimisation import make_optimiser, make_schedule
    from rudder.training.model.task import make_task

    _check_device(config)
    width = make_task(config, graph).num_outputs
    model = build_model(
        config.model,
        in_dim=graph.feature_dim,
        num_classes=width,
        options=ModelOptions.of(config),
    )
    own = OwnModel.parse(config.model)
    with nullcontext() if own is None else own.running():
        _backwards(model, config, in_dim=graph.feature_dim, width=width)
    optimiser = make_optimiser(config, model)
    try:
        optimiser.step()
    except (TypeError, RuntimeError) as error:
        raise ConfigError(
            f"optimizer = {config.optimizer!r} cannot make a step: {error}",
            remedy="choose one that needs no closure and no sparse gradients, such as Adam or SGD",
        ) from None
    make_schedule(config, optimiser)


def _check_device(config: RunConfig) -> None:
    import torch

    if config.device == "cuda" and torch.version.cuda is None:
        raise MachineError(
            f"device = cuda, but torch {torch.__version__} is built without CUDA",
            remedy="install a build of torch with CUDA, or leave out --device",
        )
    if config.device == "cuda" and not torch.cuda.is_available():
        raise MachineError(
            "device = cuda, but torch finds no GPU on this machine",
            remedy="see what `nvidia-smi` shows, or leave out --device",
        )


def _backwards(model: nn.Module, config: RunConfig, *, in_dim: int, width: int) -> None:
    import torch

    from rudder.training.model.aggregation import TensorBlock

    blocks = [_block(num_dst=_SEEDS + above) for above in reversed(range(config.layers))]
    if config.device == "cuda":
        blocks = [TensorBlock.of(block, torch.device("cpu")) for block in blocks]
    model.train()
    outputs = model(blocks, torch.randn(_SEEDS + config.layers, in_dim))
    shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if shape != (_SEEDS, width):
        raise ConfigError(
            f"model = {config.model!r} returns {shape} for {_SEEDS} seeds, not {(_SEEDS, width)}",
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
        try_training(request.config, request.graph)
    except RudderError as error:
        problem = _Problem(message=error.message, remedy=error.remedy, exit_code=error.exit_code)
        os.write(out, problem.model_dump_json().encode())
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
