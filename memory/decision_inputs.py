"""What a decision rested on besides windows, recalled episodes and answers of models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict
from sqlite_utils import Database

from rudder.memory.store import Key
from rudder.tools.estimate.calibration import Learned
from rudder.training.steering_options import Objective
from rudder.training.workload import Workload

Node = Literal["observe", "plan", "criticise", "reconsider", "guard"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GuardState(_Frozen):
    """in_flight: a change is on trial; quiet_until: the step before which nothing is changed."""

    in_flight: bool = False
    quiet_until: int = 0


FRESH = GuardState()
"""Of a guard that nothing was told yet."""


class Passage(_Frozen):
    """One node of the graph: how many windows were known when it began, and when it was done.

    Windows go on coming while a model thinks.
    """

    node: Node
    begin: int
    end: int


class DecisionInputs(_Frozen):
    """Kept for replay, before a decision has any effect.

    objective, tolerance, seed: of the run's options; memory_budget_bytes: in force then;
    allotted_rows: this trainer's part of it in runs of version 0.1, where parts could differ;
    learned: what the estimator had learned before; fingerprint: of the sampled accesses, None
    without any; passages: in order, as far as the decision got.
    """

    episode_id: str
    objective: Objective
    tolerance: float
    seed: int
    memory_budget_bytes: int | None
    allotted_rows: int | None = None
    learned: Learned
    guard: GuardState
    fingerprint: int | None
    passages: tuple[Passage, ...] = ()

    def budget_of(self, workload: Workload) -> int | None:
        """The budget of a host that gives each of its trainers as much as this one had."""
        if self.memory_budget_bytes is None or self.allotted_rows is None:
            return self.memory_budget_bytes
        return self.allotted_rows * workload.row_bytes * max(workload.trainers_on_host, 1)

    def begin(self, node: Node) -> int | None:
        """Windows known when a node began; None: the decision did not get to it."""
        return next((each.begin for each in self.passages if each.node == node), None)

    def end(self, node: Node) -> int | None:
        """Windows known when a node was done; None: the decision did not get to it."""
        return next((each.end for each in self.passages if each.node == node), None)


def save_inputs(
    db: Database, inputs: DecisionInputs, *, session: int, first_window: int
) -> Iterable[Key]:
    """Write a decision's inputs in place of those known so far, inside the caller's transaction."""
    db.conn.execute(
        "INSERT INTO decision_inputs VALUES (?, ?, ?, ?) ON CONFLICT (episode_id)"
        " DO UPDATE SET content = excluded.content",
        (inputs.episode_id, session, first_window, inputs.model_dump_json()),
    )
    return [("decision_inputs", inputs.episode_id)]


class KeptInputs(_Frozen):
    """A decision's inputs; session: of the controller; first_window: the number of the row in
    `windows` that this controller wrote first."""

    session: int
    first_window: int
    inputs: DecisionInputs


def read_inputs(db: Database) -> Iterator[KeptInputs]:
    """Of all decisions that have some."""
    found = db.conn.execute(
        "SELECT session, first_window, content FROM decision_inputs ORDER BY session"
    )
    return (
        KeptInputs(
            session=session,
            first_window=first_window,
            inputs=DecisionInputs.model_validate_json(content),
        )
        for session, first_window, content in found
    )
