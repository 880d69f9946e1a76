"""What controllers decide, told as lines for people while a run goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rudder.agents.controller.report import RUN_ENDED, SteeringReport, read_report, report_version
from rudder.agents.llm.errors import EndpointError
from rudder.cli.show import figures
from rudder.cli.show.changes import change_text
from rudder.memory.records import Episode, Outcome
from rudder.training.metrics import Judgement, LastChange
from rudder.training.settings import Change


def endpoint_line(error: str, *, words: str = "") -> str | None:
    """A line for the name of an error; None for one that is not the endpoint's fault.

    words: what the server said, without secrets.
    """
    kind = next((each for each in EndpointError.__subclasses__() if each.__name__ == error), None)
    if kind is None:
        return None
    said = f' (the server says: "{words}")' if words else ""
    return (
        f"the model's endpoint {kind.fault}{said}; the embedded agents decide meanwhile:"
        f" {kind.default_remedy}"
    )


_LOOK_S = 0.5
"""Least time between two looks at a rank's report; it holds the last four changes."""


class SteeringWatch:
    """Looks at the controllers' reports in a run's folder, and tells each news once.

    A rank's report is read at most twice a second, and only if it has changed: the work grows with
    the number of ranks, not with its square, however many events there are.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds."""
        self.num_reads = 0
        self._folder, self._clock = folder, clock
        self._looked_at: dict[int, float] = {}
        self._versions: dict[int, tuple[int, int] | None] = {}
        self._seen: dict[int, SteeringReport] = {}
        self._told: set[str] = set()
        self._faults: set[str] = set()

    def news(self, rank: int) -> list[str]:
        """Lines for a rank's changes since the last look, for their results, and (once a run) for
        each way in which a model's endpoint fails."""
        now = self._clock()
        if now - self._looked_at.get(rank, -math.inf) < _LOOK_S:
            return []
        self._looked_at[rank] = now
        return self.last_news(rank)

    def last_news(self, rank: int) -> list[str]:
        """The same, however short ago the last look was: for the end of a run."""
        version = report_version(self._folder, rank)
        if version == self._versions.get(rank):
            return []
        self.num_reads += 1
        report = read_report(self._folder, rank)
        if report is None:
            return []
        self._versions[rank], self._seen[rank] = version, report
        told = (episode_line(episode) for episode in report.changes)
        news = [f"rank {rank}, {line}" for line in told if line is not None]
        news = [line for line in news if line not in self._told]
        self._told.update(news)
        return [*news, *self._new_faults(report)]

    def _new_faults(self, report: SteeringReport) -> Iterator[str]:
        model = report.counts.model
        if model is None:
            return
        for error in model.fallbacks:
            words = model.words.get(error, "")
            line = None if error in self._faults else endpoint_line(error, words=words)
            self._faults.add(error)
            if line is not None:
                yield line

    def report(self, rank: int) -> SteeringReport | None:
        """What was last seen of a rank's controller."""
        return self._seen.get(rank)


def episode_line(episode: Episode) -> str | None:
    """A decision in a line; None for one that changed nothing."""
    if episode.applied is None or episode.applied.outcome != "applied":
        return None
    change = change_text(_changed(episode), before=episode.observation.settings)
    head = f"step {episode.applied.step}: {change}"
    expected = episode.verdict.expected if episode.verdict else None
    if episode.outcome is None:
        reason = f" ({episode.plan.reason})" if episode.plan.reason else ""
        if expected is None:
            return head + reason
        rows, wait = expected.rows_fetched.mid, expected.exposed_wait_ms.mid
        seen = episode.observation
        if not seen.step_ms:
            return f"{head}{reason}; rows fetched a step {figures.count(round(rows))} expected"
        return (
            f"{head}{reason}; rows fetched a step {figures.count(round(seen.rows_fetched))}"
            f" -> {figures.count(round(rows))} expected,"
            f" wait {seen.exposed_wait_ms:.1f} -> {wait:.1f} ms"
        )
    return f"{head}: {episode.outcome.result}{_measured(episode.outcome)}"


def last_change(episode: Episode) -> LastChange | None:
    """What became of a change; None for a decision that made none."""
    if episode.applied is None or episode.applied.outcome != "applied":
        return None
    return LastChange(
        step=episode.applied.step,
        change=change_text(_changed(episode), before=episode.observation.settings),
        judgement=_judgement(episode.outcome),
    )


def _judgement(outcome: Outcome | None) -> Judgement:
    """A trial that the run's end cut short, or whose controller died with it, judged nothing."""
    if outcome is None or outcome.reason == RUN_ENDED:
        return "unjudged"
    return outcome.result if outcome.result in ("confirmed", "reverted") else "abandoned"


def _changed(episode: Episode) -> Change:
    return episode.plan.change if episode.verdict is None else episode.verdict.change


def _measured(outcome: Outcome) -> str:
    if outcome.rows_after is None or outcome.wait_ms_after is None:
        return f" ({outcome.reason})" if outcome.reason else ""
    return (
        f", {figures.count(round(outcome.rows_after))} rows a step,"
        f" wait {outcome.wait_ms_after:.1f} ms"
    )
