from __future__ import annotations

from pathlib import Path

from rich.console import Console

from rudder.cli.show.data import as_text
from rudder.training.partition.statistics import (
    FeatureStatistics,
    LabelStatistics,
    PartitionStatistics,
    PartStatistics,
)
from rudder.training.partitioned_graph import TensorInfo


def part(num_nodes: int, num_train: int | None) -> PartStatistics:
    return PartStatistics(
        num_nodes=num_nodes,
        num_halo=41_234_567,
        num_edges=1_612_345_678,
        num_cut_edges=123_456_789,
        num_bytes=98_765_432_100,
        num_train=num_train,
        num_val=num_train,
        num_test=num_train,
    )


FOUND = PartitionStatistics(
    dataset="ogb:ogbn-papers100M",
    graph_name="papers",
    part_config=Path("/data/papers.json"),
    num_nodes=111_059_956,
    num_edges=3_228_124_712,
    parts=(part(61_059_956, 1_207_179), part(50_000_000, 207_179)),
    node_tensors=(TensorInfo(name="feat", row_shape=(128,), dtype="float16"),),
    edge_tensors=(),
    features=(
        FeatureStatistics(
            name="feat",
            dtype="float16",
            width=128,
            least=-12.345678,
            greatest=1.2e10,
            mean=-0.0123456,
            deviation=123.456,
            num_not_finite=1_234_567,
            num_constant=12,
        ),
    ),
    labels=LabelStatistics(
        name="label",
        num_classes=4,
        multilabel=False,
        counts=(10, 40, 0, 50),
        num_without=109_000_000,
        num_untrained=1,
    ),
    num_checksums=9,
)


def shown(found: PartitionStatistics) -> str:
    console = Console(width=80, record=True, file=None)
    with console.capture() as capture:
        console.print(as_text(found), highlight=False)
    return capture.get()


def test_partitions_are_shown_in_80_columns() -> None:
    text = shown(FOUND)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "7.6 % of edges are cut; " in text
    (largest,) = (line.split() for line in lines if line.startswith("max/mean"))
    assert largest == ["max/mean", "1.10", "1.00", "1.00", "1.00", "1.71", "1.71", "1.71"]
    assert "checksums: 9 files are as they were written" in text
    assert "nodes: class 3 50.0 %, class 1 40.0 %, class 0 10.0 %, class 2 0.0 %" in text
    assert "classes without a training node: 1" in text
    assert "no run can train" not in text


def test_a_problem_is_shown_last() -> None:
    bare = FOUND.model_copy(
        update={
            "parts": (part(2, None),), "features": (), "labels": None, "num_checksums": 0,
            "problem": "it has no label",
        }
    )  # fmt: skip
    text = shown(bare)
    assert text.rstrip().endswith("as it is named:\nit has no label")
    assert "train" not in text.split("node tensors")[0].replace("no run can train", "")
    assert "--write-checksums writes them" in text
