"""Which node tensors of somebody's partitions are features, label and masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rudder.training.errors import ConfigError
from rudder.training.partitioned_graph import TensorChoice, TensorInfo

Tensors = dict[str, TensorInfo]

_LABELS = ("label", "labels", "y", "target")
_NEITHER = ("orig_id", "seed_phase", "part_id", "inner_node", "trainer_id")
"""Names that DGL and Rudder give to tensors which are neither features nor labels."""
_MASK_OPTIONS = {"train": "train-mask", "val": "valid-mask", "test": "test-mask"}
"""By the word that the name of such a mask has in it."""
_MASK_TYPES = ("bool", "uint8", "int8")


@dataclass(frozen=True)
class Chosen:
    """The tensors that a run uses; masks: their names by train, val and test."""

    features: tuple[TensorInfo, ...]
    label: TensorInfo
    masks: dict[str, str]
    is_regression: bool = False

    @property
    def is_multilabel(self) -> bool:
        """Whether labels are a 0 or 1 for each class."""
        return self.label.width > 1 and not self.is_regression


def choose(tensors: Tensors, names: TensorChoice, *, where: Path) -> Chosen:
    """The tensors that are named, and for the rest the only candidate of each; val may be absent.

    Raises ConfigError that lists what there is. where: the partitions, for messages.
    """
    masks = _masks(tensors, names, where)
    rest = [t for t in tensors.values() if t.name not in (*masks.values(), *_NEITHER)]
    if names.label is not None:
        label = named(tensors, names.label, option="label", where=where)
    else:
        called_so = [t for t in rest if t.name.lower() in _LABELS]
        whole = [t for t in rest if t.width == 1 and t.dtype.startswith("int")]
        label = _only(called_so or whole, tensors, option="label", where=where)
    if names.feature:
        features = [named(tensors, n, option="feature", where=where) for n in names.feature]
    else:
        no_label = [t for t in rest if t != label and t.name.lower() not in _LABELS]
        floats = [t for t in no_label if t.dtype.startswith("float")]
        features = [_only(floats, tensors, option="feature", where=where)]
    return Chosen(tuple(features), label, masks, names.is_regression)


def _masks(tensors: Tensors, names: TensorChoice, where: Path) -> dict[str, str]:
    given = {"train": names.train_mask, "val": names.val_mask, "test": names.test_mask}
    masks = {}
    for split, option in _MASK_OPTIONS.items():
        if (name := given[split]) is not None:
            masks[split] = named(tensors, name, option=option, where=where).name
            continue
        fitting = [
            t
            for t in tensors.values()
            if not t.row_shape and t.dtype in _MASK_TYPES and split in t.name.lower()
        ]
        if fitting or split != "val":
            masks[split] = _only(fitting, tensors, option=option, where=where).name
    return masks


def named(tensors: Tensors, name: str, *, option: str, where: Path) -> TensorInfo:
    """The tensor of this name; raises ConfigError that lists what there is."""
    if name in tensors:
        return tensors[name]
    raise ConfigError.for_field(
        option.replace("-", "_"),
        value=name,
        allowed=f"a tensor of {where.name}, which has {_listed(tensors.values())}",
        remedy=f"name one of these with --{option}",
    )


def _only(
    candidates: Sequence[TensorInfo], tensors: Tensors, *, option: str, where: Path
) -> TensorInfo:
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise ConfigError(
            f"{where}: no node tensor looks like the {option}; it has {_listed(tensors.values())}",
            remedy=f"name it with --{option}, or cut the graph again with one in g.ndata"
            + (" (bool, one per node)" if option.endswith("mask") else ""),
        )
    example = candidates[0].name
    raise ConfigError(
        f"{where}: several node tensors may be the {option}: {_listed(candidates)}",
        remedy=f"choose: --{option} {example}"
        + (f", or several side by side: --{option} {','.join(t.name for t in candidates)}"
           if option == "feature" else ""),
    )  # fmt: skip


def _listed(tensors: Iterable[TensorInfo]) -> str:
    return ", ".join(str(tensor) for tensor in tensors) or "no tensors"
