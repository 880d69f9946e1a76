"""Recall for the graph: the run's own last episodes, and those of earlier runs."""

from __future__ import annotations

from collections import deque

from rudder.memory.journal import Journal, Recalled
from rudder.memory.past.circumstances import circumstances, distance
from rudder.memory.records import Episode, Observation
from rudder.training.workload import Workload

_OWN = 8
_OWN_STEPS = 2048
"""Own episodes from further back are not recalled: circumstances have changed since."""
_LIMIT = 5
_MEASURED = ("confirmed", "reverted")


class EpisodeRecall:
    """The run's own last episodes, together with those of earlier runs from the journal."""

    def __init__(self, journal: Journal, *, workload: Workload) -> None:
        self._journal, self._workload = journal, workload
        self._own: deque[Episode] = deque(maxlen=_OWN)

    def learn(self, episode: Episode) -> None:
        """Keep an episode whose trial was confirmed or reverted; others measured nothing, nor did
        the rows fetched before the first window, which are confirmed without a trial."""
        outcome = episode.outcome
        if outcome is None or outcome.result not in _MEASURED:
            return
        if episode.observation.step_ms or outcome.rows_after is not None:
            self._own.append(episode)

    def last(self, limit: int) -> list[Episode]:
        """The run's own last episodes, the newest first."""
        return list(self._own)[: -limit - 1 : -1]

    def recall(self, observation: Observation) -> list[Recalled]:
        """At most five, good and bad; the nearest first, the newer first among equals."""
        now = circumstances(observation, self._workload)
        own = [
            Recalled(
                distance=distance(now, circumstances(each.observation, self._workload).tobytes()),
                workload=self._workload,
                episode=each,
            )
            for each in reversed(self._own)
            if observation.step - each.observation.step <= _OWN_STEPS
        ]
        others = self._journal.recall(observation, limit=_LIMIT)
        return sorted([*own, *others], key=lambda each: each.distance)[:_LIMIT]
