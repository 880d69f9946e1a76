"""What a script may pass to a loader: taken as DGL takes it, or refused with a remedy."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from rudder.training.errors import ConfigError
from rudder.training.partition_view import IntArray


def whole_number(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """An integer of any kind within a range; raises ConfigError."""
    allowed = f"a whole number of at least {least}" if most is None else f"{least} to {most}"
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least or (most is not None and number > most):
        raise ConfigError.for_field(name, value=value, allowed=allowed)
    return number


def tensor_names(field: str, names: Any) -> tuple[str, ...]:
    """Names of node tensors, each once; raises ConfigError."""
    allowed = "a sequence of different names of node tensors"
    if isinstance(names, str):
        raise ConfigError.for_field(
            field, value=names, allowed=allowed, remedy=f"write {field}=[{names!r}]"
        )
    is_sequence = isinstance(names, Sequence) and all(isinstance(name, str) for name in names)
    if not is_sequence:
        raise ConfigError.for_field(field, value=names, allowed=allowed)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError.for_field(
            field, value=list(names), allowed=allowed, remedy=f"name {', '.join(twice)} once"
        )
    return tuple(names)


def some_of(field: str, names: Any, others: Sequence[str]) -> tuple[str, ...]:
    """Names that are among others; raises ConfigError."""
    chosen = tensor_names(field, names)
    if unknown := sorted(set(chosen) - set(others)):
        raise ConfigError.for_field(
            field, value=list(chosen), allowed=f"names of `inputs` and `outputs`: {list(others)}",
            remedy=f"add {', '.join(unknown)} to `inputs` or `outputs`",
        )  # fmt: skip
    return chosen


@dataclass(frozen=True)
class TensorNames:
    """Names of tensors to deliver: inputs, outputs of nodes, edge_inputs, edge_outputs of edges.

    mutable: those of nodes that the script writes in an epoch.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    mutable: tuple[str, ...]
    edge_inputs: tuple[str, ...] = ()
    edge_outputs: tuple[str, ...] = ()

    @classmethod
    def of_nodes(cls, *, inputs: Any, outputs: Any, mutable: Any, edge_inputs: Any) -> TensorNames:
        """Check what a script passes to a loader of nodes; raises ConfigError."""
        inputs, outputs = tensor_names("inputs", inputs), tensor_names("outputs", outputs)
        mutable = some_of("mutable", mutable, (*inputs, *outputs))
        return cls(inputs, outputs, mutable, tensor_names("edge_inputs", edge_inputs))

    @classmethod
    def of_edges(cls, *, inputs: Any, outputs: Any, mutable: Any, edge_inputs: Any) -> TensorNames:
        """Check what a script passes to a loader of edges; raises ConfigError."""
        of_nodes = cls.of_nodes(inputs=inputs, outputs=(), mutable=mutable, edge_inputs=edge_inputs)
        return replace(of_nodes, edge_outputs=tensor_names("outputs", outputs))

    @property
    def inputs_ahead(self) -> tuple[str, ...]:
        """The inputs that may be read ahead."""
        return tuple(name for name in self.inputs if name not in self.mutable)

    @property
    def outputs_ahead(self) -> tuple[str, ...]:
        """The outputs that may be read ahead."""
        return tuple(name for name in self.outputs if name not in self.mutable)


@dataclass(frozen=True)
class Course:
    """How a loader goes through its seeds; epochs, seed: None where the script gives none."""

    batch_size: int
    shuffle: bool
    drop_last: bool
    epochs: int | None
    seed: int | None

    @classmethod
    def of(cls, *, batch_size: Any, shuffle: Any, drop_last: Any, epochs: Any, seed: Any) -> Course:
        """Check what a script passes; raises ConfigError."""
        return cls(
            batch_size=whole_number("batch_size", batch_size, least=1),
            shuffle=bool(shuffle),
            drop_last=bool(drop_last),
            epochs=None if epochs is None else whole_number("epochs", epochs, least=0),
            seed=None if seed is None else whole_number("seed", seed, least=0, most=2**32 - 1),
        )


def device_of(value: Any) -> torch.device:
    """A device that this process can use; raises ConfigError."""
    try:
        return torch.empty(0, device=value).device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError.for_field(
            "device", value=value, allowed=f"a device that torch can use here ({reason})",
            remedy='use device="cpu", or a build of torch for this accelerator',
        ) from None  # fmt: skip


def seed_ids(name: str, seeds: Any, *, below: int) -> IntArray:
    """int64[n] ids of nodes or edges, of a tensor, an array or a list; raises ConfigError."""
    if isinstance(seeds, Mapping):
        raise ConfigError.for_field(
            name, value=f"a dictionary of {list(seeds)}", allowed="a one-dimensional id tensor",
            remedy="pass the ids alone: this loader is for graphs of one type of nodes and edges",
        )  # fmt: skip
    ids = one_dimensional(name, seeds)
    if len(ids) and not 0 <= ids.min() <= ids.max() < below:
        found = f"{ids.min()} to {ids.max()}"
        raise ConfigError.for_field(name, value=found, allowed=f"0 to {below - 1}")
    return ids


def phases_of(order: Any, *, num_nodes: int) -> IntArray | None:
    """int64[n] phase of each seed, or None; raises ConfigError."""
    if order is None:
        return None
    phases = one_dimensional("order", order)
    if len(phases) != num_nodes:
        raise ConfigError.for_field(
            "order", value=f"{len(phases)} numbers", allowed=f"one for each of {num_nodes} nodes"
        )
    return phases


def one_dimensional(name: str, values: Any) -> IntArray:
    """int64[n]; raises ConfigError for what is not a line of whole numbers."""
    try:
        array = values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    except (ValueError, TypeError):
        array = np.asarray(values, dtype=object)
    if not array.size and array.ndim == 1:
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        found = f"{array.dtype} of shape {tuple(array.shape)}"
        remedy = "use mask.nonzero().view(-1) for a mask" if array.dtype.kind == "b" else ""
        raise ConfigError.for_field(
            name, value=found, allowed="a one-dimensional id tensor", remedy=remedy
        )
    return array.astype(np.int64)
