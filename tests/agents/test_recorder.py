"""What a decision rests on is kept before it acts, and only where somebody keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rudder.bench.simulated.run import simulate
from rudder.memory.journal import AuditEntry, DecisionInputs, Journal
from rudder.memory.records import Episode
from rudder.training.steering_options import SteeringOptions
from tests.agents.replay.made import Make


class Order(Journal):
    """Remembers what came when."""

    def __init__(self) -> None:
        self.inputs: list[DecisionInputs] = []
        self.events: list[str] = []
        self.episodes: list[Episode] = []

    def add_inputs(self, inputs: DecisionInputs, *, calls: Sequence[AuditEntry] = ()) -> None:
        self.inputs.append(inputs)
        self.events.append(f"inputs {inputs.passages[-1].node}")

    def log(self, entry: AuditEntry) -> bool:
        said = entry.kind == "note"
        self.events.append(f"{entry.agent} {entry.outcome}" if said else entry.kind)
        return True

    def save(self, episode: Episode) -> None:
        self.episodes.append(episode)


def recorded() -> Order:
    journal = Order()
    trainer = Make().trainer()
    asyncio.run(simulate(trainer, options=SteeringOptions(seed=7), windows=16, journal=journal))
    return journal


def test_inputs_and_approvals_are_kept_before_the_intent_is() -> None:
    events = recorded().events
    for number, event in enumerate(events):
        if event == "intent":
            assert events[number - 6 : number + 2] == [
                "inputs plan", "planner answered", "inputs criticise", "critic approved",
                "inputs guard", "guard approved", "intent", "effect",
            ]  # fmt: skip
    assert "intent" in events


def test_every_episode_has_its_inputs_and_the_options_that_count() -> None:
    journal = recorded()
    kept = {each.episode_id: each for each in journal.inputs}
    assert kept.keys() == {each.episode_id for each in journal.episodes}
    assert {(each.objective, each.tolerance, each.seed) for each in journal.inputs} == {
        ("time", 0.01, 7)
    }
    for episode in journal.episodes:
        assert kept[episode.episode_id].begin("observe") == episode.observation.window + 1
        assert (kept[episode.episode_id].begin("guard") is None) == (episode.guard is None)
