"""Estimates of buffers that grew, made again from the records of runs.

    rudder train --rate 200mbit --epochs 12 --run-dir runs/steered
    python -m benchmarks.growth runs

For every applied growth whose buffer had settled when its trial ended: rows fetched a step before
and after, and the relative error of what was expected of the same steps: `recorded` by the run's
own controller, `now` by the estimator as it is, from the windows before the decision.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.shared import EstimateError, Row, parser_of, records_below, show
from rudder.agents.trial import Trial
from rudder.memory.records import Episode, Outcome
from rudder.memory.run.run_reader import RunReader
from rudder.tools.estimate.history import History
from rudder.tools.estimate.whatif import WhatIf
from rudder.training.errors import RudderError
from rudder.training.metrics import Window
from rudder.training.settings import Applied, Change
from rudder.training.workload import Workload


class Growth(Row):
    """One growth, or all of them; errors are (measured - expected) / expected."""

    run: str
    step: int | None
    rows: str
    recorded: float | None
    now: float | None


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
    change = Change.between(before.settings, applied.settings)
    whatif = WhatIf(history)
    trial = Trial(
        change,
        applied=applied,
        before=before,
        expected=whatif.effect(change),
        course=whatif.course(change, applied_step=applied.step),
    )
    later = [window for window in windows if window.first_step >= before.step]
    found = (trial.feed(window) for window in later)
    return Growth(
        run=f"{file.parents[1].name} rank {workload.rank}",
        step=before.step,
        rows=f"{before.rows_fetched:,.0f} -> {outcome.rows_after or 0:,.0f}",
        recorded=outcome.rows_error,
        now=next((each.rows_error for each in found if each is not None), None),
    )


def _all(found: Sequence[Growth], name: str) -> str:
    of_all = EstimateError.of([e for each in found if (e := getattr(each, name)) is not None])
    median = "-" if of_all.median is None else f"{of_all.median:.1%}"
    return f"{name}: {of_all.within} of {of_all.changes} within 5 %, median {median}"


def main() -> None:
    """Read, estimate, print."""
    parser = parser_of(__doc__)
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
        print("\n".join(_all(found, name) for name in ("recorded", "now")))


if __name__ == "__main__":
    main()
