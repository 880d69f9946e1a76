"""What partitions hold, whoever wrote them: sizes, cut, halo, splits, features and labels.

A part is looked at after the other, and a tensor some rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rudder.training.checksums import sealed_json, stored_files
from rudder.training.errors import ConfigError, DataError
from rudder.training.manifest import CHECKSUMS_NAME, Contents, Manifest, read_contents
from rudder.training.partition.choice import Chosen, choose
from rudder.training.partition.described import (
    Labels,
    Part,
    agreed,
    check_edge_weight,
    damage_first,
    manifest_of,
    open_parts,
)
from rudder.training.partition.layout import Layout, find_part_config
from rudder.training.partition.tensor_file import Array
from rudder.training.partitioned_graph import TensorChoice, TensorInfo
from rudder.training.settings import Frozen

_ROWS_AT_ONCE = 1 << 16


class PartStatistics(Frozen):
    """One part. num_cut_edges: of its edges, those that come from another part."""

    num_nodes: int
    num_halo: int
    num_edges: int
    num_cut_edges: int
    num_bytes: int
    num_train: int | None = None
    num_val: int | None = None
    num_test: int | None = None


class FeatureStatistics(Frozen):
    """Numbers of a feature over all nodes; mean and deviation of the finite ones.

    num_not_finite: NaN or infinite; num_constant: columns with one value only.
    """

    name: str
    dtype: str
    width: int
    least: float
    greatest: float
    mean: float
    deviation: float
    num_not_finite: int
    num_constant: int


class LabelStatistics(Frozen):
    """Labels of the nodes in a split.

    counts: nodes of each class; num_without: nodes in no split; num_untrained: classes that no
    training node has, though a node of another split does.
    """

    name: str
    num_classes: int
    multilabel: bool
    counts: tuple[int, ...]
    num_without: int
    num_untrained: int


class PartitionStatistics(Frozen):
    """All of it. problem: why no run can be trained on it as it is named; None: one can."""

    dataset: str
    graph_name: str
    part_config: Path
    num_nodes: int
    num_edges: int
    parts: tuple[PartStatistics, ...]
    node_tensors: tuple[TensorInfo, ...]
    edge_tensors: tuple[TensorInfo, ...]
    features: tuple[FeatureStatistics, ...] = ()
    labels: LabelStatistics | None = None
    """Of classes."""
    targets: FeatureStatistics | None = None
    """Of numbers to predict."""
    num_checksums: int = 0
    """Files that were read and are as they were written."""
    problem: str | None = None

    @property
    def num_cut_edges(self) -> int:
        """Edges between parts."""
        return sum(part.num_cut_edges for part in self.parts)

    @property
    def cut_fraction(self) -> float:
        """Cut edges over all edges."""
        return self.num_cut_edges / max(self.num_edges, 1)


def measure_partitions(
    data: Path, choice: TensorChoice, *, progress: Callable[[str], None]
) -> PartitionStatistics:
    """Read all of a folder's partitions, or of a JSON's, and compare checksums where there are any.

    Raises DataError for files that cannot be read or have changed.
    """
    with damage_first(data):
        part_config = find_part_config(data)
        layout, manifest = Layout.read(part_config), manifest_of(part_config)
    num_checksums = _verify(part_config.parent, progress)
    parts = open_parts(part_config, layout, manifest)
    nodes, edges = (
        agreed(part_config, [getattr(part, kind) for part in parts])
        for kind in ("node_tensors", "edge_tensors")
    )
    chosen, problem = _chosen(parts, nodes, choice, part_config)
    return PartitionStatistics(
        dataset=manifest.dataset if manifest else layout.graph_name,
        graph_name=layout.graph_name,
        part_config=part_config,
        num_nodes=layout.num_nodes,
        num_edges=layout.num_edges,
        parts=tuple(_measure_parts(part_config, layout, parts, chosen, progress)),
        node_tensors=tuple(nodes.values()),
        edge_tensors=tuple(edges.values()),
        features=tuple(
            _measure_numbers(parts, info, progress) for info in (chosen.features if chosen else ())
        ),
        labels=_measure_labels(parts, chosen) if chosen and not chosen.is_regression else None,
        targets=_measure_numbers(parts, chosen.label, progress)
        if chosen and chosen.is_regression
        else None,
        num_checksums=num_checksums,
        problem=problem,
    )


def _verify(directory: Path, progress: Callable[[str], None]) -> int:
    contents = read_contents(directory)
    if contents is None:
        return 0
    progress(f"comparing the checksums of {len(contents.files):,} files")
    contents.verify_all(directory)
    return sum(bool(file.xxh3) for file in contents.files)


def _chosen(
    parts: Sequence[Part], tensors: dict[str, TensorInfo], choice: TensorChoice, where: Path
) -> tuple[Chosen | None, str | None]:
    """The tensors of a run, or why there is none."""
    try:
        chosen = choose(tensors, choice, where=where)
        Labels.of(parts, chosen, where=where)
        check_edge_weight(where, parts, choice.edge_weight)
    except (ConfigError, DataError) as error:
        return None, str(error)
    return chosen, None


def _measure_parts(
    part_config: Path,
    layout: Layout,
    parts: Sequence[Part],
    chosen: Chosen | None,
    progress: Callable[[str], None],
) -> Iterator[PartStatistics]:
    for number, part in enumerate(parts):
        progress(f"reading part {number} of {len(parts)}")
        file = part_config.parent / (layout.parts[number].part_graph or "")
        num_halo, num_cut_edges = _structure(file, number)
        masks = chosen.masks if chosen else {}
        sizes = {
            f"num_{split}": int(np.count_nonzero(part.node_tensors[name]))
            for split, name in masks.items()
        }
        yield PartStatistics(
            num_nodes=part.info.num_nodes,
            num_halo=num_halo,
            num_edges=part.info.num_edges,
            num_cut_edges=num_cut_edges,
            num_bytes=part.info.num_bytes,
            **sizes,
        )


def _structure(file: Path, part: int) -> tuple[int, int]:
    """Halo nodes of a part, and its edges from halo nodes."""
    import dgl

    try:
        (graph,), _ = dgl.load_graphs(str(file))
    except (dgl.DGLError, OSError) as error:
        raise DataError(
            f"{file} (partition of host{part}) is not a readable graph:"
            f" {str(error).splitlines()[0]}",
            remedy="restore it from a copy, or cut the graph again",
        ) from None
    is_inner = graph.ndata["inner_node"].bool()
    sources, _ = graph.edges()
    is_cut = graph.edata["inner_edge"].bool() & ~is_inner[sources.long()]
    return int((~is_inner).sum()), int(is_cut.sum())


# -- features ----------------------------------------------------------------------------------


def _measure_numbers(
    parts: Sequence[Part], info: TensorInfo, progress: Callable[[str], None]
) -> FeatureStatistics:
    progress(f"reading {info.name}")
    sums = _Sums(max(info.width, 1))
    for part in parts:
        tensor = part.node_tensors[info.name]
        for first in range(0, len(tensor), _ROWS_AT_ONCE):
            sums.add(tensor[first : first + _ROWS_AT_ONCE])
    return sums.statistics(info)


@dataclass
class _Sums:
    """Sums over rows, by column; deviations are from the first rows' mean, which keeps digits."""

    width: int

    def __post_init__(self) -> None:
        self._least = np.full(self.width, np.inf)
        self._greatest = np.full(self.width, -np.inf)
        self._num_not_finite = self._count = 0
        self._shift: float | None = None
        self._sum = self._squares = 0.0

    def add(self, rows: Array) -> None:
        """Rows [n, ...]."""
        numbers = rows.reshape(len(rows), -1).astype(np.float64)
        finite = np.isfinite(numbers)
        self._num_not_finite += int((~finite).sum())
        self._least = np.minimum(self._least, np.where(finite, numbers, np.inf).min(axis=0))
        self._greatest = np.maximum(self._greatest, np.where(finite, numbers, -np.inf).max(axis=0))
        known = numbers[finite]
        if self._shift is None and len(known):
            self._shift = float(known.mean())
        offsets = known - (self._shift or 0.0)
        self._count += len(known)
        self._sum += float(offsets.sum())
        self._squares += float((offsets**2).sum())

    def statistics(self, info: TensorInfo) -> FeatureStatistics:
        """What has been added."""
        count = max(self._count, 1)
        offset = self._sum / count
        return FeatureStatistics(
            name=info.name,
            dtype=info.dtype,
            width=info.width,
            least=float(self._least.min()),
            greatest=float(self._greatest.max()),
            mean=(self._shift or 0.0) + offset,
            deviation=max(self._squares / count - offset**2, 0.0) ** 0.5,
            num_not_finite=self._num_not_finite,
            num_constant=int((self._least == self._greatest).sum()),
        )


# -- labels ------------------------------------------------------------------------------------


def _measure_labels(parts: Sequence[Part], chosen: Chosen) -> LabelStatistics:
    name = chosen.label.name
    counts: npt.NDArray[np.int64] = np.zeros(chosen.label.width, dtype=np.int64)
    trained = counts.copy()
    num_without = 0
    for part in parts:
        masks = {
            split: part.node_tensors[key].astype(np.bool_) for split, key in chosen.masks.items()
        }
        labels, used = part.node_tensors[name], np.logical_or.reduce(list(masks.values()))
        num_without += int((~used).sum())
        counts = _add(counts, labels[used], chosen)
        trained = _add(trained, labels[masks["train"]], chosen)
    num_classes = len(counts)
    trained = _padded(trained, num_classes)
    return LabelStatistics(
        name=name,
        num_classes=num_classes,
        multilabel=chosen.is_multilabel,
        counts=tuple(counts.tolist()),
        num_without=num_without,
        num_untrained=int(((counts > 0) & (trained == 0)).sum()),
    )


def _add(counts: npt.NDArray[np.int64], labels: Array, chosen: Chosen) -> npt.NDArray[np.int64]:
    """Nodes of each class, with these."""
    if chosen.is_multilabel:
        return counts + np.asarray(np.count_nonzero(labels, axis=0), dtype=np.int64)
    found = np.bincount(labels.reshape(-1).astype(np.int64), minlength=len(counts))
    return found + _padded(counts, len(found))


def _padded(counts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    return np.pad(counts, (0, length - len(counts)))


# -- checksums ---------------------------------------------------------------------------------


def write_checksums(data: Path) -> Contents:
    """Write the checksums of others' partitions beside their JSON; runs compare them from then on.

    Raises ConfigError for partitions that Rudder wrote, which have theirs.
    """
    part_config = find_part_config(data)
    directory, layout = part_config.parent, Layout.read(part_config)
    if isinstance(read_contents(directory), Manifest):
        raise ConfigError(
            f"write_checksums is not allowed for {directory}, which Rudder wrote",
            remedy="leave it out: its manifest has the checksums",
        )
    files = [part_config, *(directory / name for name in layout.file_names)]
    try:
        contents = Contents(files=stored_files(directory, files))
        (directory / CHECKSUMS_NAME).write_text(sealed_json(contents))
    except (OSError, ValueError) as error:
        raise DataError(
            f"checksums of {directory} cannot be written: {error}",
            remedy="check that its files can be read and the folder can be written",
        ) from None
    return contents
