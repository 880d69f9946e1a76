"""A run's folder: what was asked for, and what has come of it so far."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Literal

import psutil
from pydantic import ValidationError

from rudder.memory.run.run_reader import FOLDER, run_files
from rudder.memory.run.series import RankSeries, read_series
from rudder.training.config import CONFIG_FILE
from rudder.training.control.door import LocalControl, launcher_answers, listens
from rudder.training.errors import DataError
from rudder.training.job import JOB_VARIABLE
from rudder.training.metrics import Summary

SUMMARY_FILE = "summary.json"
ERROR_FILE = "error.txt"
"""Why the run failed, also where nobody read standard error."""
RunState = Literal["live", "finished", "failed", "cut short", "over"]
_CONNECT_S, _DOOR_S = 0.2, 1.0


@dataclass(frozen=True)
class StoredRun:
    """One run; `cut short`: it was killed, or its machine went down; `over`: of a script of one's
    own, which does not tell how it ended."""

    folder: Path

    def __post_init__(self) -> None:
        known = (CONFIG_FILE, SUMMARY_FILE, ERROR_FILE, FOLDER)
        if not any((self.folder / name).exists() for name in known):
            raise DataError(
                f"{self.folder} is not the folder of a run",
                remedy="name one that `rudder train` or a steered script wrote; see `ls runs`",
            )

    @cached_property
    def summary(self) -> Summary | None:
        """None: the run is not finished, or another version wrote a summary of other fields."""
        with suppress(OSError, ValidationError):
            return Summary.model_validate_json((self.folder / SUMMARY_FILE).read_bytes())
        return None

    @cached_property
    def config(self) -> dict[str, Any]:
        """What the run was asked to do; empty where a script of one's own asked."""
        with suppress(OSError, ValueError, RecursionError):
            return tomllib.loads((self.folder / CONFIG_FILE).read_text())
        return {}

    @property
    def trained_on(self) -> str | None:
        """The name of its graph, if the run was started; else what names it in its settings."""
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            return str(json.loads((self.folder / "job.json").read_bytes())["graph"]["dataset"])
        return self.config.get("data") or self.config.get("dataset")

    @property
    def error(self) -> str | None:
        """Why it failed."""
        with suppress(OSError):
            return (self.folder / ERROR_FILE).read_text(errors="replace").strip()
        return None

    @property
    def state(self) -> RunState:
        """Live where a process of it runs on this machine, or a trainer or its launcher answers."""
        if self.is_live:
            return "live"
        if self.error is not None:
            return "failed"
        if (self.folder / SUMMARY_FILE).exists():
            return "finished"
        return "cut short" if (self.folder / CONFIG_FILE).exists() else "over"

    @property
    def is_live(self) -> bool:
        """Whether it trains now, as far as this machine can tell."""
        folder, job = self.folder / "control", str(self.folder.absolute() / "job.json")
        control = LocalControl(folder)
        return (
            any(listens(control, path, timeout_s=_CONNECT_S) for path in control.sockets())
            or (folder.exists() and job in live_jobs())
            or launcher_answers(self.folder, timeout_s=_DOOR_S)
        )

    @property
    def began_at(self) -> datetime:
        """When it was started, or gone on with."""
        files = [self.folder / name for name in (CONFIG_FILE, FOLDER, "")]
        first = next(file for file in files if file.exists())
        return datetime.fromtimestamp(first.stat().st_mtime, UTC)

    @property
    def files(self) -> list[Path]:
        """The record of each rank; none where nobody steered."""
        has_record = any((self.folder / FOLDER).glob("rank*.db"))
        return run_files(self.folder) if has_record else []

    @property
    def recorded_planner(self) -> str:
        """As a controller tells it beside its record, else `agents`."""
        for file in self.files:
            with suppress(OSError, ValueError, LookupError, TypeError):
                return str(json.loads(file.with_suffix(".json").read_text())["planner"])
        return "agents"

    def series(self, *, num_points: int) -> list[RankSeries]:
        """What each rank measured; raises DataError where a record cannot be read."""
        reports = () if self.summary is None else self.summary.ranks
        return read_series(self.files, reports, num_points=num_points)


def live_jobs() -> set[str]:
    """The job files of all runs that have a process on this machine."""
    return set(_job_files())


def _job_files() -> Iterator[str]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if (job := process.environ().get(JOB_VARIABLE)) is not None:
                yield job


@dataclass(frozen=True)
class RunFacts:
    """What runs are listed and compared by; None: not known, or the run is not finished.

    epoch_seconds: median of the slowest rank's epochs; score: of the test set, after the last
    epoch.
    """

    name: str
    folder: str
    state: RunState
    began_at: datetime
    trained_on: str | None
    hosts: int | str | None
    trainers_per_host: int | None
    rate: str | None
    model: str | None
    loader: str | None
    planner: str | None
    llm_model: str | None
    epochs: int | None = None
    epoch_seconds: float | None = None
    all_epochs_seconds: float | None = None
    hit_fraction: float | None = None
    rows_fetched: int | None = None
    bytes_fetched: int | None = None
    score_name: str | None = None
    score: float | None = None

    @classmethod
    def of(cls, run: StoredRun) -> RunFacts:
        """Of a run in any state."""
        config: dict[str, Any] = {
            name: value
            for name, value in run.config.items()
            if isinstance(value, _KINDS.get(name, str))
        }
        is_steered = config.get("loader") != "stock" and config.get("controller") != "none"
        asked = {name: config.get(name) for name in _ASKED}
        if not config and run.files:
            asked |= {"loader": "rudder", "planner": run.recorded_planner}
        elif not is_steered:
            asked |= {"planner": None, "llm_model": None}
        facts = cls(
            name=run.folder.absolute().name,
            folder=str(run.folder),
            state=run.state,
            began_at=run.began_at,
            trained_on=run.trained_on,
            **asked,
        )
        return facts if run.summary is None else replace(facts, **_came_of_it(run.summary))


_ASKED = ("hosts", "trainers_per_host", "rate", "model", "loader", "planner", "llm_model")
_KINDS: dict[str, Any] = {"hosts": int | str, "trainers_per_host": int}
"""Of settings that are no text; a file of another version, or an edited one, may have others."""


def _came_of_it(summary: Summary) -> dict[str, Any]:
    seconds = summary.epoch_seconds
    main = summary.evaluations[-1].scores[0] if summary.evaluations else None
    return {
        "trained_on": summary.dataset,
        "epochs": len(seconds),
        "epoch_seconds": median(seconds) if seconds else None,
        "all_epochs_seconds": sum(seconds),
        "hit_fraction": summary.hit_fraction,
        "rows_fetched": summary.rows_fetched,
        "bytes_fetched": sum(e.rows.bytes_fetched for each in summary.ranks for e in each.epochs),
        "score_name": main.name if main else None,
        "score": main.test if main else None,
    }


def find_runs(parent: Path) -> list[StoredRun]:
    """The runs in a folder, the newest first."""
    found = []
    for folder in parent.iterdir() if parent.is_dir() else ():
        with suppress(DataError, NotADirectoryError):
            found.append(StoredRun(folder))
    return sorted(found, key=lambda run: run.began_at, reverse=True)
