"""How near estimates of rows fetched came, from the records of runs; and how near they come now.

    rudder train --rate 200mbit --epochs 12 --run-dir runs/steered
    python -m benchmarks.estimates runs

For every applied change: rows fetched a step before and after, and the relative error of what was
expected of the same steps: `recorded` by the run's own controller, `now` by the estimator as it is,
from the windows before the decision. Errors are absent where nothing was expected, or the buffer
had not settled when the trial ended. Sums are of all changes, and of those that let a buffer grow.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.shared import parser_of
from rudder.agents.controller.report import is_change
from rudder.agents.trial import Trial
from rudder.memory.records import Episode
from rudder.memory.run.run_reader import RunReader
from rudder.tools.estimate.history import History
from rudder.tools.estimate.whatif import WhatIf
from rudder.training.errors import RudderError
from rudder.training.metrics import Window
from rudder.training.workload import Workload


@dataclass(frozen=True)
class Estimated:
    """One change; errors are (measured - expected) / expected."""

    run: str
    step: int
    grew: bool
    rows: str
    recorded: float | None
    now: float | None


def changes(file: Path) -> Iterator[Estimated]:
    """Those of a rank."""
    with RunReader(file) as reader:
        episodes, windows = reader.episodes(), reader.windows(with_slices=True)
        workloads = reader.workloads()
    known: list[float] = []
    for episode in filter(is_change, episodes):
        before, applied, outcome = episode.observation, episode.applied, episode.outcome
        assert applied is not None
        recorded = None if outcome is None else outcome.rows_error
        after = (outcome and outcome.rows_after) or 0.0
        now = None
        if recorded is not None:
            now = _now(episode, windows, workloads[episode.run_key], known)
            known.append(recorded)
        yield Estimated(
            run=f"{file.parents[1].name} rank {episode.rank}",
            step=before.step,
            grew=applied.settings.capacity_rows > before.settings.capacity_rows,
            rows=f"{before.rows_fetched:,.0f} -> {after:,.0f}",
            recorded=recorded,
            now=now,
        )


def _now(
    episode: Episode, windows: Sequence[Window], workload: Workload, known: Sequence[float]
) -> float | None:
    """The error of an estimate that is made again; known: errors of the changes before."""
    before, applied, verdict = episode.observation, episode.applied, episode.verdict
    assert applied is not None
    history = History(workload)
    for window in windows:
        if window.first_step + window.num_steps <= before.step:
            history.add(window)
    whatif = WhatIf(history)
    for error in known:
        whatif.note_error(error)
    if not whatif.is_ready or verdict is None:
        return None
    trial = Trial(
        verdict.change,
        applied=applied,
        before=before,
        expected=whatif.effect(verdict.change),
        course=whatif.course(verdict.change, applied_step=applied.step),
    )
    found = (trial.feed(window) for window in windows if window.first_step >= before.step)
    return next((each.rows_error for each in found if each is not None), None)


def summary(found: Sequence[Estimated], name: str) -> dict[str, float | None]:
    """Of the changes with an error: how many were at most 5 % off, the usual and worst error."""
    sizes = [abs(error) for each in found if (error := getattr(each, name)) is not None]
    return {
        "changes": len(sizes),
        "within": sum(size <= 0.05 for size in sizes),
        "median": statistics.median(sizes) if sizes else None,
        "worst": max(sizes, default=None),
    }


def main() -> None:
    """Read, estimate, print."""
    parser = parser_of(__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="with records of steered runs")
    files = [
        file
        for folder in parser.parse_args().folders
        for file in sorted(folder.rglob("steering/rank*.db"))
    ]
    if not files:
        sys.exit("error: nothing below these folders was steered; name folders of runs")
    try:
        found = [each for file in files for each in changes(file)]
    except RudderError as error:
        sys.exit(f"error: {error}")
    sums = {
        kind: {name: summary(some, name) for name in ("recorded", "now")}
        for kind, some in (("all", found), ("growths", [each for each in found if each.grew]))
    }
    print(json.dumps({"changes": [asdict(each) for each in found], **sums}, indent=2))


if __name__ == "__main__":
    main()
