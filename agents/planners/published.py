"""The published planner: is it worth replacing rows of a score buffer now, yes or no?

Rudder (arXiv 2602.23556): the buffer has a fixed capacity and the policy `score`, and an agent is
shown hit shares, communication and what its last five decisions brought. Who answers is a language
model, a fitted classifier, or a rule that says yes as long as rounds help. A yes is carried out:
no estimate is made and no critic objects. Unlike in the paper, a round is measured (its trial)
before the next question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rudder.agents.guard import Steps
from rudder.agents.learned.planner import THRESHOLD, LearnedPlanner, features_of
from rudder.agents.planners.proposals import keep
from rudder.memory.journal import Recalled
from rudder.memory.records import Episode, Observation, Plan, Verdict
from rudder.tools.constants import REPLACEMENT_INTERVAL
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import Change

LAST_DECISIONS = 5
PUBLISHED_STEPS = Steps(cool_down_steps=0, max_cool_down_steps=0)
"""For the guard: a no is the agent's to say."""
_ROUND = Change(replace_now=True)


@dataclass(frozen=True)
class RoundAnswer:
    """Whether to replace now, and why."""

    is_yes: bool
    reason: str


class Answerer(Protocol):
    """Answers the question."""

    @property
    def name(self) -> str:
        """For the record."""

    async def answer(
        self, observation: Observation, last: Sequence[Episode], toolbox: Toolbox
    ) -> RoundAnswer:
        """last: this run's own measured rounds, the newest first."""


class PublishedPlanner:
    """Proposes a replacement round, or nothing."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    @property
    def name(self) -> str:
        """With the name of who answers."""
        return f"published:{self._answerer.name}"

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """A round, where the answer is yes; none before a window was measured."""
        if observation.step_ms <= 0:
            return keep(self.name, "nothing was measured yet")
        last = [Episode.model_validate(each) for each in toolbox.recall(LAST_DECISIONS)]
        answer = await self._answerer.answer(observation, last, toolbox)
        if not answer.is_yes:
            return keep(self.name, answer.reason)
        return Plan(planner=self.name, change=_ROUND, expected=None, reason=answer.reason)


class Rule:
    """Yes as long as the last round helped; after one that did not, after a pause that doubles."""

    name = "rule"

    async def answer(
        self, observation: Observation, last: Sequence[Episode], toolbox: Toolbox
    ) -> RoundAnswer:
        """The answer; deterministic."""
        failed = 0
        while failed < len(last) and not _has_helped(last[failed]):
            failed += 1
        if not failed:
            return RoundAnswer(True, "the last round helped" if last else "no round was tried yet")
        pause = REPLACEMENT_INTERVAL * 2 ** (failed - 1)
        gone = observation.step - last[0].observation.step
        return RoundAnswer(
            gone >= pause, f"the last {failed} did not help; {gone} of {pause} steps ago"
        )


def _has_helped(episode: Episode) -> bool:
    outcome = episode.outcome
    if outcome is None or outcome.rows_before is None or outcome.rows_after is None:
        return False
    return outcome.rows_after < outcome.rows_before - (outcome.noise_rows or 0.0)


class Fitted:
    """The classifier of a fitted planner, asked about a round only."""

    def __init__(self, planner: LearnedPlanner) -> None:
        self._planner = planner

    @property
    def name(self) -> str:
        """Kind and version of the model."""
        return self._planner.name

    async def answer(
        self, observation: Observation, last: Sequence[Episode], toolbox: Toolbox
    ) -> RoundAnswer:
        """Yes where a round is more likely to help than not."""
        x = features_of(observation, change=_ROUND, workload=toolbox.history.workload)
        probability = float(self._planner.classifier.probabilities(np.stack([x]))[0])
        return RoundAnswer(
            probability > THRESHOLD, f"helps with a probability of {probability:.2f}"
        )


class WillingCritic:
    """Approves everything: the published agent has no critic."""

    name = "published"

    async def review(
        self, observation: Observation, recalled: Sequence[Recalled], plan: Plan, toolbox: Toolbox
    ) -> Verdict:
        """Approval."""
        reason = "the published planner's answer is not reviewed"
        return Verdict(
            decision="approve", critic=self.name, change=plan.change, expected=None, reason=reason
        )
