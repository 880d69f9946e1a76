"""How near estimates of rows fetched came, from the records of runs; and how near they come now.

    rudder train --rate 200mbit --epochs 12 --run-dir runs/steered
    python -m benchmarks.estimates runs

For every applied change: rows fetched a step before and after, and the relative error of what was
expected of the same steps: `recorded` by the run's own controller, `now` by the estimator as it is,
from the windows before the decision. Errors are absent where nothing was expected, or the buffer
had not settled when the trial ended. Sums are of all changes, and of those that let a buffer grow.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared import run_study
from rudder.agents.controller.report import is_change
from rudder.agents.replay.recorded_run import NotReplayable, RecordedRun, Scene
from rudder.agents.trial import Trial
from rudder.memory.run.run_reader import RunReader
from rudder.training.errors import DataError
from rudder.training.metrics import Window


def changes(file: Path) -> Iterator[dict[str, Any]]:
    """Those of a rank; errors are (measured - expected) / expected."""
    with RunReader(file) as reader:
        windows = reader.windows(with_slices=True)
        for scene in RecordedRun(reader).decisions():
            episode = scene.episode
            if not is_change(episode) or episode.applied is None:
                continue
            before, outcome = episode.observation, episode.outcome
            recorded = outcome.rows_error if outcome else None
            after = (outcome and outcome.rows_after) or 0.0
            yield {
                "run": f"{file.parents[1].name} rank {episode.rank}",
                "step": before.step,
                "grew": episode.applied.settings.capacity_rows > before.settings.capacity_rows,
                "rows": f"{before.rows_fetched:,.0f} -> {after:,.0f}",
                "recorded": recorded,
                "now": None if recorded is None else _now(scene, windows),
            }


def _now(scene: Scene | NotReplayable, windows: Sequence[Window]) -> float | None:
    """The error of an estimate that is made again, from what was known before the decision."""
    episode, applied, verdict = scene.episode, scene.episode.applied, scene.episode.verdict
    if isinstance(scene, NotReplayable) or applied is None or verdict is None:
        return None
    whatif = scene.toolbox.whatif
    trial = Trial(
        verdict.change,
        applied=applied,
        before=episode.observation,
        expected=whatif.effect(verdict.change),
        course=whatif.course(verdict.change, applied_step=applied.step),
    )
    later = [each for each in windows if each.first_step >= episode.observation.step]
    found = (trial.feed(window) for window in later)
    return next((each.rows_error for each in found if each is not None), None)


def summary(found: Sequence[dict[str, Any]], name: str) -> dict[str, float | None]:
    """Of the changes with an error: how many were at most 5 % off, the usual and worst error."""
    sizes = [abs(error) for each in found if (error := each[name]) is not None]
    return {
        "changes": len(sizes),
        "within": sum(size <= 0.05 for size in sizes),
        "median": statistics.median(sizes) if sizes else None,
        "worst": max(sizes, default=None),
    }


def measure(options: Namespace, folder: Path) -> dict[str, object]:
    places: list[Path] = options.folders
    files = [file for place in places for file in sorted(place.rglob("steering/rank*.db"))]
    if not files:
        raise DataError("nothing below these folders was steered", remedy="name folders of runs")
    found = [each for file in files for each in changes(file)]
    sums = {
        kind: {name: summary(some, name) for name in ("recorded", "now")}
        for kind, some in (("all", found), ("growths", [each for each in found if each["grew"]]))
    }
    return {"changes": found, **sums}


if __name__ == "__main__":
    run_study(__doc__, measure, positional=("folders", "+"))
