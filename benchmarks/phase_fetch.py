"""Whether an eager fetch after a change of phase ever pays, under the policy `lookahead`.

    python -m benchmarks.phase_fetch

Streams whose popular nodes become others after some batches, two phases to warm up and one that
counts. A window of 16 batches into that phase, rows are fetched at once: those observed most so far
(`observed`), those of that window (`recent`), or those that the phase uses most, which only the
stream knows (`oracle`). Prints per lookahead and fetch the rows that it saved until the phase ends,
over the rows that it fetched: the least, the median and the most of all streams and capacities.
Above 1 the fetch would pay. `change`: rows a step in the window after the change, over those later.
"""

from __future__ import annotations

import itertools
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared import middle, run_study
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.training.buffer.policies.lookahead import LookaheadBuffer
from rudder.training.buffer.policy import IntArray
from rudder.training.partition_view import PartitionView
from rudder.training.settings import BufferSettings, Change, FetchTargets

NODES, DRAWS, PHASE = 8_000, 800, 240
WINDOW = 16
EXPONENTS = (0.5, 0.8, 1.1)
SHARES = (0.1, 0.25, 0.5)
LOOKAHEADS = (0, 4, 16, 40)


Batches = Sequence[IntArray]


def _batches(exponent: float, seed: int) -> Batches:
    """Of three phases, and some to look ahead at."""
    stream = ZipfStream(NODES, DRAWS, exponent=exponent, phase_batches=PHASE, seed=seed)
    return [stream.batch(number) for number in range(3 * PHASE + max(LOOKAHEADS) + 1)]


def _most_used(batches: Batches) -> IntArray:
    nodes, uses = np.unique(np.concatenate(batches), return_counts=True)
    return nodes[np.argsort(-uses, kind="stable")]


BEGIN, END = 2 * PHASE, 3 * PHASE
FETCHES: dict[str, Callable[[Batches], IntArray | None]] = {
    "observed": lambda batches: None,
    "recent": lambda batches: _most_used(batches[BEGIN : BEGIN + WINDOW]),
    "oracle": lambda batches: _most_used(batches[BEGIN + WINDOW : END]),
}


class Replay:
    """The policy over a stream, to the end of the third phase."""

    def __init__(self, batches: Batches, settings: BufferSettings) -> None:
        view = PartitionView(
            part=0,
            starts=np.array([0, 1, NODES + 1]),
            indptr=np.zeros(2, dtype=np.int64),
            indices=np.empty(0, dtype=np.int64),
            halo=np.empty(0, dtype=np.int64),
        )
        self._batches, self._policy = batches, LookaheadBuffer(view, settings)
        self._observed = 0

    def run(
        self, fetch: Callable[[Batches], IntArray | None] | None = None
    ) -> tuple[IntArray, int]:
        """int64[PHASE]: rows that batches of the third phase miss; and rows fetched eagerly."""
        rows, fetched = np.zeros(END, dtype=np.int64), 0
        for number in range(END):
            if number == BEGIN + WINDOW and fetch is not None:
                fetched = self._fetch(fetch(self._batches))
            ahead = self._policy.settings.lookahead_batches
            while self._observed <= number + ahead:
                self._policy.observe(self._batches[self._observed])
                self._observed += 1
            rows[number] = len(self._policy.plan(self._batches[number]).misses)
        return rows[BEGIN:], fetched

    def _fetch(self, nodes: IntArray | None) -> int:
        """At once, as many rows as the buffer holds; None: those observed most."""
        most = self._policy.settings.capacity_rows
        ids = () if nodes is None else tuple((nodes[:most] + 1).tolist())  # global ids
        source = "observed" if nodes is None else "ids"
        targets = FetchTargets.model_validate({
            "source": source, "row_budget": most, "ids": ids, "while_idle": True,
        })  # fmt: skip
        self._policy.apply(Change(fetch_targets=targets))
        fetched = 0
        while self._policy.wants_rows:
            fetched += len(self._policy.fetch(most).targets)
        return fetched


def measure(options: Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    paid: dict[tuple[int, str], list[float]] = defaultdict(list)
    for exponent, share, ahead, seed in itertools.product(
        EXPONENTS, SHARES, LOOKAHEADS, range(options.seeds)
    ):
        batches = _batches(exponent, seed)
        settings = BufferSettings(capacity_rows=round(share * NODES), lookahead_batches=ahead)
        alone, _ = Replay(batches, settings).run()
        usual = alone[PHASE // 2 :].mean()
        paid[ahead, "change"].append(float(alone[:WINDOW].mean() / usual))
        for name, fetch in FETCHES.items():
            rows, fetched = Replay(batches, settings).run(fetch)
            paid[ahead, name].append(float((alone.sum() - rows.sum()) / max(fetched, 1)))
    for (ahead, name), found in sorted(paid.items()):
        yield {"lookahead": ahead, "fetch": name, **middle(found)}


if __name__ == "__main__":
    run_study(__doc__, measure, seeds=1)
