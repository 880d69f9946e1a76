"""From any folder of DistDGL partitions to what a run needs to know of them.

Only headers, masks and labels are read; everything else stays on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from rudder.training.errors import DataError
from rudder.training.manifest import LABEL, Manifest, read_contents
from rudder.training.partition.choice import Chosen, choose, named
from rudder.training.partition.layout import Layout, PartFiles, find_part_config, plain_name
from rudder.training.partition.tensor_file import Array, tensors_of
from rudder.training.partitioned_graph import PartInfo, PartitionedGraph, TensorChoice, TensorInfo


@dataclass(frozen=True)
class Part:
    """One part's files, open."""

    info: PartInfo
    node_tensors: dict[str, Array]
    edge_tensors: dict[str, Array]


def describe(
    data: Path, names: TensorChoice, *, progress: Callable[[str], None]
) -> PartitionedGraph:
    """Describe the partitions in a folder, or of a JSON; `progress` is told what is odd.

    Raises DataError for partitions that cannot be used, and ConfigError for names that do not
    stand for one tensor each.
    """
    with damage_first(data):
        part_config = find_part_config(data)
        layout, manifest = Layout.read(part_config), manifest_of(part_config)
        parts = open_parts(part_config, layout, manifest)
        tensors = agreed(part_config, [part.node_tensors for part in parts])
        chosen = choose(tensors, names, where=part_config)
        check_edge_weight(part_config, parts, names.edge_weight)
        labels = Labels.of(parts, chosen, where=part_config)
    if labels.num_overlapping:
        progress(
            f"{labels.num_overlapping:,} training nodes are also validated or tested on:"
            " the accuracy will look better than it is"
        )
    own = manifest if chosen.label.name == LABEL else None
    return PartitionedGraph(
        dataset=manifest.dataset if manifest else layout.graph_name,
        graph_name=layout.graph_name,
        part_config=part_config,
        num_nodes=layout.num_nodes,
        num_edges=layout.num_edges,
        parts=tuple(part.info for part in parts),
        features=chosen.features,
        label=chosen.label,
        train_mask=chosen.masks["train"],
        val_mask=chosen.masks.get("val"),
        test_mask=chosen.masks["test"],
        num_train=labels.num_train,
        num_classes=own.num_classes if own and not chosen.is_regression else labels.num_classes,
        multilabel=chosen.is_multilabel,
    )


@contextmanager
def damage_first(data: Path) -> Iterator[None]:
    """Have a DataError say that files are damaged, where their checksums tell that."""
    try:
        yield
    except DataError:
        directory = data if data.is_dir() else data.parent
        if contents := read_contents(directory):
            contents.verify_all(directory)
        raise


def manifest_of(part_config: Path) -> Manifest | None:
    """Rudder's own manifest, whose files are all there with their sizes; None if it made none.

    Raises DataError where files lack, or belong to another graph.
    """
    directory = part_config.parent
    manifest = read_contents(directory)
    if manifest is None:
        return None
    manifest.verify(directory)
    if not isinstance(manifest, Manifest):
        return None
    if manifest.part_config(directory) != part_config:
        raise DataError(
            f"{part_config} belongs to another graph than its manifest, {manifest.graph_name!r}",
            remedy=f"give --data {manifest.part_config(directory)}",
        )
    return manifest


def open_parts(part_config: Path, layout: Layout, manifest: Manifest | None) -> list[Part]:
    """Map every part's tensors; raises DataError for a file that lacks or does not fit."""
    return [_open(part_config, layout, manifest, part) for part in range(layout.num_parts)]


def _open(part_config: Path, layout: Layout, manifest: Manifest | None, part: int) -> Part:
    files = layout.parts[part]
    num_nodes, num_edges = (
        last - first for first, last in (layout.node_map[part], layout.edge_map[part])
    )
    if not num_nodes:
        raise DataError(
            f"{part_config}: part {part} has no nodes", remedy="cut the graph into fewer parts"
        )
    read = {
        name: _tensors(part_config.parent / name, num_rows, part)
        for name, num_rows in ((files.node_feats, num_nodes), (files.edge_feats, num_edges))
    }
    return Part(
        info=PartInfo(
            num_nodes=num_nodes,
            num_edges=num_edges,
            num_bytes=_num_bytes(part_config.parent, files, part),
            num_halo=manifest.parts[part].num_halo_nodes if manifest else None,
        ),
        node_tensors=read[files.node_feats],
        edge_tensors=read[files.edge_feats],
    )


def _num_bytes(directory: Path, files: PartFiles, part: int) -> int:
    names = (files.node_feats, files.edge_feats, files.part_graph or "")
    try:
        return sum((directory / name).stat().st_size for name in names)
    except OSError as error:
        raise DataError(
            f"{error.filename} (partition of host{part}): {error.strerror}",
            remedy="copy the whole folder of the partitions, or cut the graph again",
        ) from None


def _tensors(path: Path, num_rows: int, part: int) -> dict[str, Array]:
    found = {plain_name(key): tensor for key, tensor in tensors_of(path).items()}
    for name, tensor in found.items():
        if not tensor.ndim or len(tensor) != num_rows:
            raise DataError(
                f"{path} (partition of host{part}): {name} has shape {list(tensor.shape)};"
                f" the part has {num_rows:,} rows",
                remedy="cut the graph again; files of two partitions are mixed",
            )
    return found


def agreed(part_config: Path, parts: Sequence[dict[str, Array]]) -> dict[str, TensorInfo]:
    """The tensors that all parts have, by name; raises DataError where parts differ."""
    infos = [
        {
            name: TensorInfo(name=name, row_shape=tensor.shape[1:], dtype=tensor.dtype.name)
            for name, tensor in part.items()
        }
        for part in parts
    ]
    for part, found in enumerate(infos):
        if different := set(infos[0].items()) ^ set(found.items()):
            name = min(name for name, _ in different)
            one, other = (str(each.get(name, "nothing")) for each in (infos[0], found))
            raise DataError(
                f"{part_config}: part 0 has {one}, part {part} has {other}",
                remedy="cut the graph again; files of two partitions are mixed",
            )
    return infos[0]


def check_edge_weight(part_config: Path, parts: Sequence[Part], name: str | None) -> None:
    """Check the edge tensor of this name; raises ConfigError or DataError."""
    if name is None:
        return
    tensors = agreed(part_config, [part.edge_tensors for part in parts])
    info = named(tensors, name, option="edge-weight", where=part_config)
    for part, tensor in enumerate(each.edge_tensors[name] for each in parts):
        if info is None or info.row_shape or not info.dtype.startswith("float"):
            raise DataError(
                f"{part_config}: edge weight {info} is not one float per edge",
                remedy="choose another tensor with --edge-weight",
            )
        if not (np.isfinite(tensor) & (tensor >= 0)).all():
            raise DataError(
                f"{part_config}: part {part} has edge weights {name} that are negative or not"
                " finite; allowed: 0 and up",
                remedy="choose another tensor with --edge-weight, or mend the weights",
            )


# -- labels ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labels:
    """What the labels of nodes in a split say."""

    num_train: int
    num_overlapping: int
    num_classes: int

    @classmethod
    def of(cls, parts: Sequence[Part], chosen: Chosen, *, where: Path) -> Labels:
        """Look at all labels and masks, a part at a time; raises DataError."""
        num_train = num_overlapping = num_classes = 0
        for part, tensors in enumerate(each.node_tensors for each in parts):
            masks = {
                split: _mask(tensors[name], name, part=part, where=where)
                for split, name in chosen.masks.items()
            }
            others = np.logical_or.reduce([m for split, m in masks.items() if split != "train"])
            num_train += int(masks["train"].sum())
            num_overlapping += int((masks["train"] & others).sum())
            used = tensors[chosen.label.name][masks["train"] | others]
            num_classes = max(num_classes, _num_classes(used, chosen, part=part, where=where))
        if not num_train:
            raise DataError(
                f"{where}: {chosen.masks['train']} has no node in it",
                remedy="name another tensor with --train-mask",
            )
        return cls(num_train, num_overlapping, num_classes)


def _mask(tensor: Array, name: str, *, part: int, where: Path) -> Array:
    if tensor.ndim != 1 or tensor.dtype.kind not in "biu" or bool((tensor > 1).any()):
        raise DataError(
            f"{where}: part {part} has {name} of type {tensor.dtype} and shape"
            f" {list(tensor.shape)}; allowed: one 0 or 1 per node, bool or uint8",
            remedy="name another tensor as mask, or cut the graph again with bool masks",
        )
    return tensor.astype(np.bool_)


_CLASSES = "class numbers from 0 (or any numbers, with --task regression)"


def _num_classes(used: Array, chosen: Chosen, *, part: int, where: Path) -> int:
    """Of the labels that are used, [n], [n, 1] or [n, classes]; the highest and 1; 1 of numbers."""
    name = chosen.label.name
    if len(chosen.label.row_shape) > 1:
        _refuse_labels(where, part, name, f"shape {list(used.shape)}", "[n], [n, 1], [n, classes]")
    if chosen.is_multilabel:
        if not np.isin(used, (0, 1)).all():
            _refuse_labels(where, part, name, "numbers other than 0 and 1", "0 and 1 in each cell")
        return chosen.label.width
    if not len(used):
        return 0
    if used.dtype.kind == "f" and (num_bad := int((~np.isfinite(used)).sum())):
        wanted = "numbers" if chosen.is_regression else "a class"
        _refuse_labels(where, part, name, f"{num_bad:,} nodes in a split without", wanted)
    if chosen.is_regression:
        return 1
    if used.dtype.kind == "f" and (used % 1 != 0).any():
        _refuse_labels(where, part, name, "fractions", _CLASSES)
    if used.min() < 0 or used.max() >= 2**31:
        found = f"{used.min()} to {used.max()} among nodes in a split"
        _refuse_labels(where, part, name, found, "class numbers from 0")
    return int(used.max()) + 1


def _refuse_labels(where: Path, part: int, name: str, found: str, allowed: str) -> NoReturn:
    raise DataError(
        f"{where}: part {part} has labels {name} with {found}; allowed: {allowed}",
        remedy="name another tensor with --label, or take nodes without a class out of the masks",
    )
