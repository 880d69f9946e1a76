"""How much faster a run's first epoch is when rows are fetched while the link idles before it.

    python -m benchmarks.first_epoch --repeats 5 --rate 1gbit
    python -m benchmarks.first_epoch --dataset synthetic:tiny --repeats 2 --batch-size 64

Jobs take turns, each from its first batch on: `none` has a planner that changes nothing; `graph`
fetches what the graph makes likely (VIP), as a run without a memory does; `memory` fetches the hot
set of an earlier run, which this study trains first. seconds: of the first epoch's slowest rank,
median and range, from before its first batch is asked for; to_none: over `none` of the same round.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared import middle, run_study, train

KINDS = ("none", "graph", "memory")


def job(run_dir: Path, kind: str, options: Sequence[str], *, memory: Path) -> dict[str, Any]:
    """The first epoch of one job."""
    summary = train(
        *options, "--planner", "fixed" if kind == "none" else "embedded", "--run-dir", str(run_dir),
        "--memory", str(memory) if kind == "memory" else "none",
    )  # fmt: skip
    epochs = [rank["epochs"][0] for rank in summary["ranks"]]
    rows = [epoch["rows"] for epoch in epochs]
    return {
        "seconds": max(epoch["seconds_total"] for epoch in epochs),
        "hit_fraction": sum(each["hits"] for each in rows) / sum(r["remote_rows"] for r in rows),
        "rows": sum(sum(each["rows_fetched"].values()) for each in rows),
        "rows_while_idle": sum(each["rows_fetched"]["idle"] for each in rows),
    }


def row_of(kind: str, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """One kind over all rounds; rows and hits: of the last one, all ranks."""
    own = found[kind]
    seconds = [each["seconds"] for each in own]
    ratios = [each / none["seconds"] for each, none in zip(seconds, found["none"], strict=True)]
    return {**own[-1], "seconds": middle(seconds), "to_none": middle(ratios)}


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    common = ["--dataset", options.dataset, "--batch-size", str(options.batch_size)]
    if options.rate != "none":
        common += ["--rate", options.rate]
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    memory = folder / "memory.db"
    job(folder / "past", "memory", [*common, "--epochs", str(options.past_epochs)], memory=memory)
    for number in range(options.repeats):
        for place in range(len(KINDS)):
            kind = KINDS[(number + place) % len(KINDS)]
            run_dir = folder / f"{number}-{kind}"
            found[kind].append(job(run_dir, kind, [*common, "--epochs", "1"], memory=memory))
        yield {kind: row_of(kind, found) for kind in KINDS}


if __name__ == "__main__":
    run_study(
        __doc__, measure, repeats=5, batch_size=512, past_epochs=3,
        dataset="synthetic:community-200k", rate="1gbit",
    )  # fmt: skip
