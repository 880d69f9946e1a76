r"""What was foretold of buffers that grew, estimated again from the records of runs.

    rudder train --rate 200mbit --epochs 12 --run-dir runs/steered
    python benchmarks/growth.py runs bench

For every applied growth whose buffer had settled when its trial ended, in the folders given: rows
fetched a step as measured, and the relative error of what was expected of the same steps:

- recorded: by the run's own controller, of the version that it had;
- last: the last batches before the decision, in a full buffer of the new capacity;
- now: the estimator as it is, from the windows before the decision;
- sample: the sampled batches that came, which no estimator knew: the sample's own error.

`within` counts errors of at most 5 %.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from steered.show import Row, show

from rudder.agents.trial import Trial
from rudder.bench.steering_record import EstimateError, records_below
from rudder.memory.records import Episode, Outcome
from rudder.memory.run.run_reader import RunReader
from rudder.tools.estimate.growth import held_rows
from rudder.tools.estimate.history import History
from rudder.tools.estimate.means import Means
from rudder.tools.estimate.sampled import SampledBatch, SampledTrace
from rudder.tools.estimate.whatif import ROWS_WINDOWS, WhatIf
from rudder.tools.limits import Limits
from rudder.training.errors import RudderError
from rudder.training.metrics import Window
from rudder.training.settings import Applied, Change
from rudder.training.workload import Workload

_AHEAD = 64
"""Batches after a trial that its last ones may be looked ahead at."""


class Growth(Row):
    """One growth, or all of them; errors are (measured - expected) / expected."""

    run: str
    step: int | None
    rows: str
    recorded: float | None
    last: float | None
    now: float | None
    sample: float | None


def growths(file: Path) -> Iterator[Growth]:
    """Those of a rank."""
    with RunReader(file) as reader:
        episodes, windows = reader.episodes(), reader.windows(with_slices=True)
        workloads = reader.workloads()
    for episode in episodes:
        before, applied, outcome = episode.observation, episode.applied, episode.outcome
        if applied is None or outcome is None or outcome.rows_error is None:
            continue
        if applied.settings.capacity_rows > before.settings.capacity_rows:
            yield _growth(file, episode, applied, outcome, windows, workloads[episode.run_key])


def _growth(
    file: Path,
    episode: Episode,
    applied: Applied,
    outcome: Outcome,
    windows: Sequence[Window],
    workload: Workload,
) -> Growth:
    before = episode.observation
    history = History(workload)
    for window in windows:
        if window.first_step + window.num_steps <= before.step:
            history.add(window)
    later = [window for window in windows if window.first_step >= before.step]
    change = Change.between(before.settings, applied.settings)
    whatif = WhatIf(history, Limits.of(workload, memory_budget_bytes=None))
    expected = whatif.effect(change)
    means = Means.of(history.recent(ROWS_WINDOWS))
    assert means is not None

    def error(course: Sequence[float]) -> float | None:
        trial = Trial(change, applied=applied, before=before, expected=expected, course=course)
        found = (trial.feed(window) for window in later)
        return next((each.rows_error for each in found if each is not None), None)

    steps = sum(window.num_steps for window in later)
    last = _last_share(history, applied) * means.remote_rows + means.seed_rows
    sample = [
        share * means.remote_rows + means.seed_rows
        for share in _shares_that_came(windows, applied, before.settings.capacity_rows)
    ]
    return Growth(
        run=f"{file.parents[1].name} rank {workload.rank}",
        step=before.step,
        rows=f"{before.rows_fetched:,.0f} -> {outcome.rows_after or 0:,.0f}",
        recorded=outcome.rows_error,
        last=error([last] * steps),
        now=error(whatif.course(change, applied_step=applied.step)),
        sample=error(sample) if sample else None,
    )


def _last_share(history: History, applied: Applied) -> float:
    trace = history.trace
    assert trace is not None
    counted = slice(trace.num_batches // 2, trace.num_batches)
    rows = trace.rows(applied.settings, history.workload, at=0)
    return float(rows[counted].sum() / trace.widths[counted].sum())


def _shares_that_came(
    windows: Sequence[Window], applied: Applied, capacity_rows: int
) -> list[float]:
    """Of each step from the change on, by the sampled batches; empty where some are missing."""
    known = list(itertools.takewhile(lambda each: each.accesses is not None, windows))
    batches = [
        SampledBatch(window.first_step + number, nodes.astype(np.int64))
        for window in known
        for number, nodes in enumerate(window.accesses.batches() if window.accesses else ())
    ]
    if len(batches) < applied.step + _AHEAD or known[0].accesses is None:
        return []
    trace = SampledTrace.of(batches, rate=known[0].accesses.rate)
    earlier = [window for window in known if window.first_step < applied.step]
    limits = held_rows(earlier, first_step=0, num_batches=trace.num_batches)
    limits[: applied.step] = np.minimum(limits[: applied.step], capacity_rows)
    limits[applied.step :] = applied.settings.capacity_rows
    sampled = np.round(trace.rate * limits).astype(np.int64)
    settings = applied.settings.model_copy(update={"capacity_rows": int(sampled[-1])})
    rows = trace.grown_rows(settings, limits=sampled)
    width = trace.widths[applied.step :].mean()
    return [float(each) for each in rows[applied.step : -_AHEAD] / width]


def _all(found: Sequence[Growth], name: str) -> str:
    estimate_error = EstimateError.of(
        [error for each in found if (error := getattr(each, name)) is not None]
    )
    median = float("nan") if estimate_error.median_error is None else estimate_error.median_error
    return (
        f"{name}: {estimate_error.within} of {estimate_error.changes} within, median {median:.1%}"
    )


def main() -> None:
    """Read, estimate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="with records of steered runs")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        files = records_below(arguments.folders)
        found = [growth for file in files for growth in growths(file)]
    except (RudderError, OSError) as error:
        sys.exit(f"{error}")
    show(found, as_json=arguments.json)
    if not arguments.json:
        print("\n".join(_all(found, name) for name in ("recorded", "last", "now", "sample")))


if __name__ == "__main__":
    main()
