"""How much faster a run's first epoch is when rows are fetched while the link idles before it.

    python -m benchmarks.first_epoch --repeats 5 --rate 1gbit
    python -m benchmarks.first_epoch --dataset synthetic:tiny --repeats 2 --batch-size 64

Jobs take turns, each from its first batch on: `none` has a planner that changes nothing; `graph`
fetches what the graph makes likely (VIP), as a run without a memory does; `memory` fetches the hot
set of an earlier run, which this study trains first. seconds: of the first epoch's slowest rank,
median and range, from before its first batch is asked for; to_none: over `none` of the same round.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared import parser_of

_RUDDER = Path(sys.executable).parent / "rudder"
KINDS = ("none", "graph", "memory")


def job(folder: Path, kind: str, options: Sequence[str], *, memory: Path) -> dict[str, Any]:
    """The first epoch of one job."""
    planner = "fixed" if kind == "none" else "embedded"
    command = [
        str(_RUDDER), "train", *options, "--planner", planner, "--json",
        "--memory", str(memory) if kind == "memory" else "none", "--run-dir", str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    ranks = [rank["epochs"][0] for rank in json.loads(done.stdout)["ranks"]]
    rows = [epoch["rows"] for epoch in ranks]
    return {
        "seconds": max(epoch["seconds_total"] for epoch in ranks),
        "hits": sum(each["hits"] for each in rows) / sum(each["remote_rows"] for each in rows),
        "rows": sum(sum(each["rows_fetched"].values()) for each in rows),
        "idle": sum(each["rows_fetched"]["idle"] for each in rows),
    }


def row_of(kind: str, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """One kind over all rounds; rows, rows_while_idle: of the last one, all ranks."""
    own = found[kind]
    seconds = [each["seconds"] for each in own]
    ratios = [each / none["seconds"] for each, none in zip(seconds, found["none"], strict=True)]
    return {
        "seconds": statistics.median(seconds),
        "range": [min(seconds), max(seconds)],
        "to_none": statistics.median(ratios),
        "to_none_range": [min(ratios), max(ratios)],
        "hit_fraction": own[-1]["hits"],
        "rows": own[-1]["rows"],
        "rows_while_idle": own[-1]["idle"],
    }


def main() -> None:
    """Run all jobs in turns; prints a line after each round, of all rounds so far."""
    parser = parser_of(__doc__, repeats=5, batch_size=512, past_epochs=3)
    parser.add_argument("--dataset", default="synthetic:community-200k")
    parser.add_argument("--rate", default="1gbit")
    asked = parser.parse_args()
    common = ["--dataset", asked.dataset, "--batch-size", str(asked.batch_size)]
    if asked.rate != "none":
        common += ["--rate", asked.rate]
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as name:
        folder, memory = Path(name), Path(name) / "memory.db"
        job(folder / "past", "memory", [*common, "--epochs", str(asked.past_epochs)], memory=memory)
        for number in range(asked.repeats):
            for place in range(len(KINDS)):
                kind = KINDS[(number + place) % len(KINDS)]
                run_dir = folder / f"{number}-{kind}"
                found[kind].append(job(run_dir, kind, [*common, "--epochs", "1"], memory=memory))
            print(json.dumps({kind: row_of(kind, found) for kind in KINDS}), flush=True)


if __name__ == "__main__":
    main()
