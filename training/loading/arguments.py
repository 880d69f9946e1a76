"""What a script may pass to a loader: taken as DGL takes it, or refused with a remedy."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

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
    """Names of tensors, each once; raises ConfigError."""
    allowed = "a sequence of different names of tensors"
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
            field, value=list(chosen), allowed=f"names that the loader delivers: {list(others)}",
            remedy=f"add {', '.join(unknown)} to `inputs`, `outputs` or `edge_inputs`",
        )  # fmt: skip
    return chosen


Field = Literal["inputs", "outputs", "edge_inputs", "pair_outputs"]
"""The parameter that names a tensor; `outputs` of a loader of edges are of its pair graphs."""


@dataclass(frozen=True)
class TensorNames:
    """Names of tensors to deliver; mutable: those of them that the script writes in an epoch."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    edge_inputs: tuple[str, ...] = ()
    pair_outputs: tuple[str, ...] = ()
    mutable: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, *, of_edges: bool, inputs: Any, outputs: Any, edge_inputs: Any, mutable: Any
    ) -> Self:
        """Check what a script passes; of_edges: to a loader of edges. Raises ConfigError."""
        found = cls(
            inputs=tensor_names("inputs", inputs),
            edge_inputs=tensor_names("edge_inputs", edge_inputs),
            **{"pair_outputs" if of_edges else "outputs": tensor_names("outputs", outputs)},
        )
        names = list(dict.fromkeys(name for _, name in found.each()))
        return replace(found, mutable=some_of("mutable", mutable, names))

    def each(self) -> Iterator[tuple[Field, str]]:
        """All names, with the parameter of each."""
        for field in get_args(Field):
            yield from ((field, name) for name in getattr(self, field))


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
