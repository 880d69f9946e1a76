"""What partitions hold, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rudder.cli.show import figures
from rudder.training.partition.statistics import (
    FeatureStatistics,
    LabelStatistics,
    PartitionStatistics,
    PartStatistics,
)

_SHOWN_CLASSES = 3
_SPLITS = (("num_train", "train"), ("num_val", "valid."), ("num_test", "test"))


def as_text(found: PartitionStatistics) -> RenderableType:
    """Everything, in 80 columns."""
    return Group(*_pieces(found))


def _pieces(found: PartitionStatistics) -> Iterator[RenderableType]:
    yield Text(f"{found.part_config}")
    yield Text(
        f"{found.dataset}: {found.num_nodes:,} nodes, {found.num_edges:,} edges,"
        f" {len(found.parts)} parts"
    )
    yield Text(f"{figures.percent(found.cut_fraction)} of edges are cut; {_checksums(found)}")
    yield Text("")
    yield _parts(found.parts)
    yield Text("")
    yield _tensors(found)
    if found.features:
        yield Text("")
        yield _features([*found.features, *filter(None, [found.targets])])
    if found.labels is not None:
        yield Text("")
        yield Text(_labels(found.labels))
    if found.problem is not None:
        yield Text("")
        yield Text(f"no run can train on this as it is named:\n{found.problem}")


def _checksums(found: PartitionStatistics) -> str:
    if found.num_checksums:
        return f"checksums: {found.num_checksums} files are as they were written"
    return "checksums: none; --write-checksums writes them"


def _parts(parts: Sequence[PartStatistics]) -> Table:
    table = Table(box=None, pad_edge=False)
    splits = [(key, name) for key, name in _SPLITS if getattr(parts[0], key) is not None]
    for heading in ("part", "nodes", "halo", "edges", "cut", "MiB", *(name for _, name in splits)):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for number, part in enumerate(parts):
        table.add_row(
            str(number),
            figures.count(part.num_nodes),
            figures.count(part.num_halo),
            figures.short_count(part.num_edges),
            figures.percent(part.num_cut_edges / max(part.num_edges, 1)),
            f"{part.num_bytes / 2**20:,.1f}",
            *(figures.count(getattr(part, key)) for key, _ in splits),
        )
    keys = ("num_nodes", "num_halo", "num_edges", None, "num_bytes", *(key for key, _ in splits))
    table.add_row("max/mean", *(_imbalance(parts, key) if key else "" for key in keys))
    return table


def _imbalance(parts: Sequence[PartStatistics], key: str) -> str:
    sizes = [getattr(part, key) for part in parts]
    return f"{max(sizes) * len(sizes) / sum(sizes):.2f}" if sum(sizes) else figures.ABSENT


def _tensors(found: PartitionStatistics) -> Text:
    nodes = ", ".join(str(tensor) for tensor in found.node_tensors) or "none"
    edges = ", ".join(str(tensor) for tensor in found.edge_tensors) or "none"
    return Text(f"node tensors: {nodes}\nedge tensors: {edges}")


def _features(features: Sequence[FeatureStatistics]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("feature", "width", "least", "mean", "deviation", "greatest", "not finite",
                    "constant"):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "feature" else "right")
    for each in features:
        numbers = (each.least, each.mean, each.deviation, each.greatest)
        table.add_row(
            each.name,
            figures.count(each.width),
            *(f"{number:.4g}" for number in numbers),
            figures.count(each.num_not_finite),
            figures.count(each.num_constant),
        )
    return table


def _labels(labels: LabelStatistics) -> str:
    order = sorted(range(labels.num_classes), key=lambda c: (-labels.counts[c], c))
    total = max(sum(labels.counts), 1)
    lines = [
        f"{labels.name}: {labels.num_classes:,} classes"
        + (" (any number for a node)" if labels.multilabel else "")
        + f"; {labels.num_without:,} nodes are in no split"
    ]
    shares = [f"class {c} {figures.percent(labels.counts[c] / total)}" for c in order]
    if len(order) <= 2 * _SHOWN_CLASSES:
        lines.append(f"nodes: {', '.join(shares)}")
    else:
        lines.append(f"most nodes: {', '.join(shares[:_SHOWN_CLASSES])}")
        lines.append(f"fewest nodes: {', '.join(shares[-_SHOWN_CLASSES:])}")
    if labels.num_untrained:
        lines.append(f"classes without a training node: {labels.num_untrained:,}")
    return "\n".join(lines)
