"""What a policy's decisions cost: seconds per batch, flatness in the remote nodes, memory.

    python benchmarks/policy_cost.py                  all policies, all figures
    python benchmarks/policy_cost.py --policy lru --quick

Time is the processor time of observe + plan of one batch, on one core. The ids of a batch are
distinct and Zipf-like (rank ** -0.8). The flatness test keeps capacity, inputs and the number of
distinct ids that are ever touched, and lets the remote nodes grow: `spread` strews the touched
ids evenly over all remote nodes (every touched record on a page of its own), `packed` leaves them
side by side, as where the node order follows locality. `packed` tells whether anything passes
over all nodes; `spread` adds what the processor's caches and TLB cost.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass

import numpy as np

from rudder.training.buffer.policy import IntArray
from rudder.training.buffer.registry import PolicyOptions, make_policy, parse_variant
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings

VARIANTS = (
    "lookahead",
    "lru",
    "lfu",
    "s3fifo",
    "sieve",
    "static",
    "score:interval=32+start=empty",
    "score:interval=1+start=empty",
)
LOOKAHEAD = 16
NUM_HALO = 1000


@dataclass(frozen=True)
class Cost:
    """One measurement; seconds are the medians and the 95th percentile over batches."""

    variant: str
    capacity: int
    num_remote: int
    inputs: int
    layout: str
    ms_per_batch: float
    ms_per_batch_p95: float
    ms_per_batch_mean: float
    hit_fraction: float
    bytes_per_remote_node: float


def view_of(num_remote: int) -> PartitionView:
    """A partition of ten nodes, with a small halo."""
    return PartitionView(
        part=0,
        starts=np.array([0, 10, 10 + num_remote]),
        indptr=np.append(np.arange(10) * (NUM_HALO // 10), NUM_HALO),
        indices=10 + np.arange(NUM_HALO),
        halo=10 + np.arange(NUM_HALO),
    )


def batches_of(
    random: np.random.Generator, *, touched: IntArray, inputs: int, num: int
) -> list[IntArray]:
    """int64[inputs] distinct ids each, those at the front of `touched` most often, sorted."""
    weights = np.arange(1, len(touched) + 1) ** -0.8
    cumulated = np.cumsum(weights) / weights.sum()
    found = []
    for _ in range(num):
        ranks = np.empty(0, dtype=np.int64)
        while len(ranks) < inputs:
            drawn = np.searchsorted(cumulated, random.random(2 * inputs))
            ranks = np.unique(np.concatenate([ranks, drawn]))
        chosen = random.permutation(ranks)[:inputs]
        found.append(np.sort(touched[chosen]))
    return found


def measure(
    variant: str,
    *,
    capacity: int,
    num_remote: int,
    num_touched: int,
    inputs: int,
    layout: str,
    num_batches: int,
) -> Cost:
    """Fill the buffer, then time batches."""
    random = np.random.default_rng(0)
    step = num_remote // num_touched if layout == "spread" else 1
    touched = random.permutation(num_touched) * step
    warm = num_batches // 2 + LOOKAHEAD
    batches = batches_of(random, touched=touched, inputs=inputs, num=num_batches + warm)
    name, options = parse_variant(variant, PolicyOptions(epoch_batches=warm // 2))
    policy = make_policy(name, view_of(num_remote), BufferSettings(capacity_rows=capacity), options)
    ahead = LOOKAHEAD if name == "lookahead" else 0
    fill = [touched[i : i + inputs] for i in range(0, min(capacity, num_touched), inputs)][::-1]
    stream = [*fill, *batches]
    seconds, hits = [], 0
    for number in range(len(stream) + ahead):
        started = time.thread_time()
        if number < len(stream):
            policy.observe(stream[number])
        if number >= ahead:
            plan = policy.plan(stream[number - ahead])
        if len(fill) + warm <= number < len(stream):
            seconds.append(time.thread_time() - started)
            hits += len(plan.hits)
    return Cost(
        variant=variant,
        capacity=capacity,
        num_remote=num_remote,
        inputs=inputs,
        layout=layout,
        ms_per_batch=1e3 * statistics.median(seconds),
        ms_per_batch_p95=1e3 * float(np.quantile(seconds, 0.95)),
        ms_per_batch_mean=1e3 * statistics.mean(seconds),
        hit_fraction=hits / (inputs * len(seconds)),
        bytes_per_remote_node=_node_bytes(policy) / num_remote,
    )


def _node_bytes(policy: object) -> int:
    """Bytes of what a policy keeps for each remote node, buffered or not."""
    return int(vars(policy)["_nodes"].nbytes)


def by_capacity(variant: str, *, quick: bool) -> list[Cost]:
    """100 000 inputs a batch, capacity 10^4 to 10^6 out of 3 million nodes."""
    capacities = (10_000, 1_000_000) if quick else (10_000, 100_000, 1_000_000)
    return [
        measure(
            variant,
            capacity=capacity,
            num_remote=3_000_000,
            num_touched=3_000_000 if capacity > 10_000 else 300_000,
            inputs=100_000,
            layout="packed",
            num_batches=20 if quick else 60,
        )
        for capacity in capacities
    ]


def by_remote_nodes(variant: str, layout: str, *, quick: bool) -> list[Cost]:
    """20 000 inputs a batch, capacity 25 000, 100 000 nodes touched; 10^5 to 10^7 remote nodes."""
    sizes = (100_000, 10_000_000) if quick else (100_000, 1_000_000, 10_000_000)
    return [
        measure(
            variant,
            capacity=25_000,
            num_remote=num_remote,
            num_touched=100_000,
            inputs=20_000,
            layout=layout,
            num_batches=40 if quick else 200,
        )
        for num_remote in sizes
    ]


def main() -> None:
    """Print a table, or JSON lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", action="append", help="a variant, such as score:interval=1")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and batches")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    options = parser.parse_args()
    for variant in options.policy or VARIANTS:
        costs = by_capacity(variant, quick=options.quick)
        for layout in ("packed", "spread"):
            costs += by_remote_nodes(variant, layout, quick=options.quick)
        for cost in costs:
            print(json.dumps(asdict(cost)) if options.json else _line(cost), flush=True)


def _line(cost: Cost) -> str:
    return (
        f"{cost.variant:30} capacity {cost.capacity:8} remote {cost.num_remote:9} {cost.layout:7}"
        f" inputs {cost.inputs:7}: {cost.ms_per_batch:7.2f} ms (mean {cost.ms_per_batch_mean:7.2f},"
        f" p95 {cost.ms_per_batch_p95:7.2f}), hits {cost.hit_fraction:4.0%},"
        f" {cost.bytes_per_remote_node:4.1f} B a node"
    )


if __name__ == "__main__":
    main()
