"""Keeps what a decision rests on while it is made, so that it can be made again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from rudder.agents.guard import Guard
from rudder.agents.replay.fingerprint import fingerprint
from rudder.memory.decision_inputs import DecisionInputs, Node, Passage
from rudder.memory.journal import Journal
from rudder.tools.toolbox import Toolbox
from rudder.training.steering_options import SteeringOptions


class Recorder(Protocol):
    """Told by the graph of each decision's way through it; one decision at a time."""

    def begin(self, toolbox: Toolbox, *, episode_id: str) -> None:
        """A decision begins."""

    def passing(self, node: Node, toolbox: Toolbox) -> AbstractContextManager[None]:
        """Around what a node does."""


class NullRecorder:
    """Keeps nothing."""

    def begin(self, toolbox: Toolbox, *, episode_id: str) -> None:
        """Do nothing."""

    def passing(self, node: Node, toolbox: Toolbox) -> AbstractContextManager[None]:
        """Do nothing around it."""
        return contextlib.nullcontext()


NO_RECORDER = NullRecorder()


class DecisionRecorder:
    """Writes into the journal once there is a plan, and again after each further node."""

    def __init__(self, journal: Journal, *, guard: Guard, options: SteeringOptions) -> None:
        """guard: the one of the graph; options: what its roles were made of."""
        self._journal, self._guard, self._options = journal, guard, options
        self._inputs: DecisionInputs | None = None

    def begin(self, toolbox: Toolbox, *, episode_id: str) -> None:
        """Look at everything before the observer does, for looking teaches the estimator."""
        self._inputs = DecisionInputs(
            episode_id=episode_id,
            objective=self._options.objective,
            tolerance=self._options.tolerance,
            seed=self._options.seed,
            memory_budget_bytes=toolbox.limits.memory_budget_bytes,
            allotted_rows=toolbox.limits.allotted_rows,
            learned=toolbox.whatif.learned,
            guard=self._guard.state,
            fingerprint=fingerprint(toolbox.history),
        )

    @contextlib.contextmanager
    def passing(self, node: Node, toolbox: Toolbox) -> Iterator[None]:
        """Note how many windows are known before and after."""
        begin = toolbox.history.version
        yield
        if self._inputs is None:
            return
        passage = Passage(node=node, begin=begin, end=toolbox.history.version)
        self._inputs = self._inputs.model_copy(
            update={"passages": (*self._inputs.passages, passage)}
        )
        if node != "observe":
            self._journal.add_inputs(self._inputs)
