"""What a policy's decisions cost: processor time per batch, and how flat it is in the graph's size.

Time is the processor time of observe + plan of one batch, on one core. Ids of a batch are distinct
and Zipf-like (rank ** -0.8). Flatness keeps capacity, inputs and the distinct ids that are ever
touched, and lets the remote nodes grow: `packed` leaves the touched ids side by side, as where the
node order follows locality, and tells whether anything passes over all nodes; `spread` strews them
evenly, every touched record on a page of its own, and adds what caches and address caches cost.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Literal

import numpy as np

from rudder.training.buffer.policy import IntArray, Policy
from rudder.training.buffer.registry import PolicyOptions, parse_variant
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Frozen
from rudder.training.simulate.study import SIMULATED_POLICIES, make_simulated

VARIANTS = (
    "lookahead", "lfu", "static", "score:interval=32+start=empty", "score:interval=1+start=empty"
)  # fmt: skip
AHEAD_BATCHES = 16
_NUM_HALO = 1000
_ZIPF_EXPONENT = 0.8

RecordLayout = Literal["packed", "spread"]
LAYOUTS: tuple[RecordLayout, ...] = ("packed", "spread")


class Work(Frozen):
    """One stream: so many remote nodes, of which `num_touched` occur, `inputs` in a batch."""

    capacity: int
    num_remote: int
    num_touched: int
    inputs: int
    layout: RecordLayout
    num_batches: int


class Cost(Work):
    """One measurement; milliseconds over batches. flatness: of a series over remote nodes, times
    as slow as with the fewest, None where the capacity is what changes."""

    variant: str
    ms_per_batch: float
    ms_per_batch_min: float
    ms_per_batch_p95: float
    hit_fraction: float
    policy_bytes: int
    flatness: float | None = None


def by_capacity(
    capacities: tuple[int, ...], *, inputs: int = 100_000, num_batches: int = 60
) -> Iterator[Work]:
    """The buffer grows, the graph stays: three million remote nodes, or three buffers' worth."""
    for capacity in capacities:
        num_remote = max(3 * max(capacities), 3 * inputs)
        yield Work(
            capacity=capacity,
            num_remote=num_remote,
            num_touched=min(max(3 * capacity, 3 * inputs), num_remote),
            inputs=inputs,
            layout="packed",
            num_batches=num_batches,
        )


def by_remote_nodes(
    sizes: tuple[int, ...], layout: RecordLayout, *, inputs: int = 20_000, num_batches: int = 200
) -> Iterator[Work]:
    """The graph grows; a buffer of 25 000 rows and 100 000 touched nodes stay (at most)."""
    touched = min(100_000, *sizes)
    for num_remote in sizes:
        yield Work(
            capacity=touched // 4,
            num_remote=num_remote,
            num_touched=touched,
            inputs=min(inputs, touched // 5),
            layout=layout,
            num_batches=num_batches,
        )


def series(
    variant: str, capacities: tuple[int, ...], sizes: tuple[int, ...], *, inputs: int,
    num_batches: int,
) -> Iterator[Cost]:  # fmt: skip
    """One policy over capacities, and over graph sizes in each layout, with their flatness."""
    for work in by_capacity(capacities, inputs=inputs, num_batches=num_batches):
        yield cost_of(variant, work)
    for layout in LAYOUTS:
        first: Cost | None = None
        for work in by_remote_nodes(sizes, layout, num_batches=num_batches):
            cost = cost_of(variant, work)
            first = first or cost
            yield cost.model_copy(update={"flatness": cost.ms_per_batch / first.ms_per_batch})


def cost_of(variant: str, work: Work) -> Cost:
    """Fill the buffer, then time batches; raises ConfigError for a wrong variant."""
    random = np.random.default_rng(0)
    step = work.num_remote // work.num_touched if work.layout == "spread" else 1
    touched = random.permutation(work.num_touched) * step
    warm = work.num_batches // 2 + AHEAD_BATCHES
    batches = _batches(random, touched, inputs=work.inputs, num=work.num_batches + warm)
    name, options = parse_variant(
        variant, PolicyOptions(epoch_batches=warm // 2), allowed=SIMULATED_POLICIES
    )
    settings = BufferSettings(capacity_rows=work.capacity)
    policy = make_simulated(name, _view(work.num_remote), settings, options)
    held = touched[: work.capacity]
    fill = [held[i : i + work.inputs] for i in range(0, len(held), work.inputs)][::-1]
    ahead = AHEAD_BATCHES if name == "lookahead" else 0
    seconds, hits = _timed(policy, [*fill, *batches], ahead=ahead, warm=len(fill) + warm)
    return Cost(
        **work.model_dump(),
        variant=variant,
        ms_per_batch=1e3 * statistics.median(seconds),
        ms_per_batch_min=1e3 * min(seconds),
        ms_per_batch_p95=1e3 * float(np.quantile(seconds, 0.95)),
        hit_fraction=hits / (work.inputs * len(seconds)),
        policy_bytes=policy.num_bytes,
    )


def _timed(
    policy: Policy, stream: list[IntArray], *, ahead: int, warm: int
) -> tuple[list[float], int]:
    """Seconds of each batch after the first `warm`, and their hits."""
    seconds, hits = [], 0
    for number in range(len(stream)):
        started = time.thread_time()
        policy.observe(stream[number])
        plan = policy.plan(stream[number - ahead]) if number >= ahead else None
        if number >= warm and plan is not None:
            seconds.append(time.thread_time() - started)
            hits += len(plan.hits)
    return seconds, hits


def _view(num_remote: int) -> PartitionView:
    """A partition of ten nodes, with a small halo."""
    num_halo = min(_NUM_HALO, num_remote)
    return PartitionView(
        part=0,
        starts=np.array([0, 10, 10 + num_remote]),
        indptr=np.append(np.arange(10) * (num_halo // 10), num_halo),
        indices=10 + np.arange(num_halo),
        halo=10 + np.arange(num_halo),
    )


def _batches(
    random: np.random.Generator, touched: IntArray, *, inputs: int, num: int
) -> list[IntArray]:
    """int64[inputs] distinct ids each, those at the front of `touched` most often, sorted."""
    weights = np.arange(1, len(touched) + 1) ** -_ZIPF_EXPONENT
    cumulated = np.cumsum(weights) / weights.sum()
    found = []
    for _ in range(num):
        ranks = np.empty(0, dtype=np.int64)
        while len(ranks) < inputs:
            drawn = np.searchsorted(cumulated, random.random(2 * inputs))
            ranks = np.unique(np.concatenate([ranks, np.minimum(drawn, len(touched) - 1)]))
        found.append(np.sort(touched[random.permutation(ranks)[:inputs]]))
    return found
