"""Recall: this run's own episodes next to those of earlier runs."""

from __future__ import annotations

from rudder.agents.recall import EpisodeRecall
from rudder.memory.journal import Journal, Recalled
from rudder.memory.records import Observation
from rudder.training.settings import BufferSettings, Change
from tests.agents.steered import observation_of, trainer_of
from tests.agents.test_critic import TINY, recalled

WORKLOAD = trainer_of().workload
NOW = observation_of(settings=TINY)


class Memory(Journal):
    """Knows one episode of another run."""

    def recall(self, observation: Observation, *, limit: int = 5) -> list[Recalled]:
        return [recalled(Change(capacity_rows=7), "confirmed", distance=0.5)]


def test_own_episodes_in_like_circumstances_come_before_those_of_others() -> None:
    episode_recall = EpisodeRecall(Memory(), workload=WORKLOAD)
    assert [each.distance for each in episode_recall.recall(NOW)] == [0.5]
    episode_recall.learn(recalled(Change(capacity_rows=900), "reverted").episode)
    assert [each.distance for each in episode_recall.recall(NOW)] == [0.0, 0.5]


def test_decisions_without_a_trial_teach_nothing() -> None:
    episode_recall = EpisodeRecall(Journal(), workload=WORKLOAD)
    for result in ("kept", "refused", "expired", "abandoned"):
        episode_recall.learn(recalled(Change(capacity_rows=900), result).episode)
    assert episode_recall.recall(NOW) == []


def test_unlike_circumstances_are_far_and_old_ones_forgotten() -> None:
    episode_recall = EpisodeRecall(Journal(), workload=WORKLOAD)
    episode_recall.learn(recalled(Change(capacity_rows=900), "reverted").episode)
    elsewhere = observation_of(settings=BufferSettings(capacity_rows=5000), hit_fraction=0.99)
    assert episode_recall.recall(elsewhere)[0].distance > 0.5
    assert episode_recall.recall(observation_of(settings=TINY, step=160 + 2049)) == []
