"""What comparing the checksums of partitions costs, as a share of loading them.

    python -m benchmarks.checksum_cost --repeats 5 PARTS

For each part in turn: DGL loads structure and tensors and makes CSC of the structure, as a graph
server does (without its copy to shared memory, so the share is on the high side); then Rudder
compares the checksums of the part's files. Files are in the page cache for both. Prints JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import dgl.distributed

from benchmarks.shared import parser_of
from rudder.training.manifest import read_contents
from rudder.training.partition.layout import Layout, find_part_config


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def load(part_config: Path, part: int) -> None:
    """Load a part as a graph server does."""
    with contextlib.redirect_stdout(io.StringIO()):
        local, *_ = dgl.distributed.load_partition(str(part_config), part)
        local.formats("csc").create_formats_()


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, repeats=5)
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    part_config = find_part_config(args.data)
    contents = read_contents(part_config.parent)
    if contents is None:
        parser.error(f"{args.data} has no checksums")
    loads, checks = [], []
    for _ in range(args.repeats + 1):
        for part in range(Layout.read(part_config).num_parts):
            loads.append(seconds(lambda part=part: load(part_config, part)))  # type: ignore[misc]
            checks.append(
                seconds(lambda part=part: contents.verify_content(part_config.parent, part=part))  # type: ignore[misc]
            )
    num_parts = len(loads) // (args.repeats + 1)
    loads, checks = loads[num_parts:], checks[num_parts:]  # the first round warms up
    shares = [check / work for check, work in zip(checks, loads, strict=True)]
    print(json.dumps({
        "load_seconds": round(statistics.median(loads), 4),
        "check_seconds": round(statistics.median(checks), 4),
        "share": round(statistics.median(shares), 4),
        "least_share": round(min(shares), 4),
        "greatest_share": round(max(shares), 4),
        "mebibytes": round(sum(file.num_bytes for file in contents.files) / 2**20, 1),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
