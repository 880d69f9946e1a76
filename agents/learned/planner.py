"""The planner that asks a fitted classifier which of a few changes is likely to help."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeGuard, get_args

import numpy as np

from rudder.agents.learned.examples import examples_of, features_of
from rudder.agents.learned.model_file import THRESHOLD, Header, Model, read_header, read_model
from rudder.agents.planners.exploring import candidates
from rudder.agents.planners.proposals import keep, propose
from rudder.memory.journal import Recalled
from rudder.memory.records import Episode, Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.errors import ConfigError
from rudder.training.settings import Change
from rudder.training.steering_options import ClassifierName, PlannerName, SteeringOptions


class LearnedPlanner:
    """Proposes the candidate that is most likely to help, if that is likely enough.

    Deterministic. Can learn on from the trials of its own run; the model's file stays as it is.
    """

    def __init__(
        self, model: Model, *, threshold: float = THRESHOLD, refit_every: int | None = None
    ) -> None:
        """refit_every: learn on after so many measured changes; None: never."""
        self._model_name = model.name
        self._classifier, self._examples = model.classifier, model.examples
        self._threshold, self._refit_every = threshold, refit_every
        self._last_id = ""
        self._num_new = self._num_learned = 0

    @property
    def name(self) -> str:
        """Kind and version of the model, and how many changes of this run it has learned on."""
        return f"{self._model_name}+{self._num_learned}" if self._num_learned else self._model_name

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """The best candidate, with the effect that the estimator expects, or no change."""
        if self._refit_every is not None:
            self._learn(toolbox, after=self._refit_every)
        best, probability = self._best(observation, toolbox)
        is_likely = probability > self._threshold
        if not toolbox.whatif.is_ready:
            reason = "too few accesses were seen to tell what a change would bring"
        elif best is None:
            reason = "no change is legal"
        elif is_likely or _must_change(observation, toolbox):
            reason = f"helps with a probability of {probability:.2f}"
            return propose(self.name, best, whatif=toolbox.whatif, reason=reason)
        else:
            reason = f"no change helps with a probability above {self._threshold:g}"
        return keep(self.name, reason)

    def _best(self, observation: Observation, toolbox: Toolbox) -> tuple[Change | None, float]:
        """Among equally likely changes the one that needs least memory."""
        choices = candidates(observation, toolbox.limits)
        if not choices:
            return None, 0.0
        workload = toolbox.history.workload
        x = [features_of(observation, change=each, workload=workload) for each in choices]
        probabilities = self._classifier.probabilities(np.stack(x))
        best = int(np.argmax(probabilities))
        return choices[best], float(probabilities[best])

    def _learn(self, toolbox: Toolbox, *, after: int) -> None:
        """Add the run's last trial, once; at most one ends between two plans."""
        for told in toolbox.recall(1):
            episode = Episode.model_validate(told)
            if episode.episode_id == self._last_id:
                return
            self._last_id = episode.episode_id
            new, _ = examples_of([(episode, toolbox.history.workload)])
            self._examples += new
            self._num_new += len(new)
        if self._num_new >= after:
            self._classifier.update(self._examples, num_new=self._num_new)
            self._num_learned += self._num_new
            self._num_new = 0


def _must_change(observation: Observation, toolbox: Toolbox) -> bool:
    """Whether the settings in force are out of bounds, as after the budget was lowered."""
    present = Change(capacity_rows=observation.settings.capacity_rows)
    return toolbox.limits.problem(present) is not None


def is_learned(planner: PlannerName) -> TypeGuard[ClassifierName | Literal["learned"]]:
    """Whether a planner needs the file of a model."""
    return planner == "learned" or planner in get_args(ClassifierName)


def check_model(planner: PlannerName, path: Path | None) -> Header | None:
    """Check before a run starts that the file is of this planner; None if the planner needs none.

    Raises ConfigError and DataError; imports no library of the model's.
    """
    if not is_learned(planner):
        return None
    if path is None:
        raise ConfigError(
            f"planner_model: planner {planner} needs a fitted model",
            remedy="give --planner-model FILE; `rudder fit` makes one",
        )
    return read_header(path, planner=None if planner == "learned" else planner)


def open_planner(options: SteeringOptions) -> LearnedPlanner:
    """Raises ConfigError without a file, DataError if it is unusable, MachineError if its library
    is missing."""
    check_model(options.planner, options.planner_model)
    assert options.planner_model is not None
    return LearnedPlanner(
        read_model(options.planner_model), refit_every=options.planner_refit_every
    )
