"""Where a controller writes down what it sees and does, and asks what was done before."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from rudder.memory.decision_inputs import DecisionInputs
from rudder.memory.model_calls import ModelCall
from rudder.memory.records import Episode, Observation
from rudder.training.metrics import Window
from rudder.training.workload import Workload

CallOutcome = Literal[
    "answered",
    "staged",
    "approved",
    "refused",
    "applied",
    "confirmed",
    "reverted",
    "expired",
    "failed",
]


class AuditEntry(BaseModel):
    """One row of the audit log: a call, or what became of one.

    kind: `call` and `result` are joined by call_id; an `intent` comes before the `effect` that it
    announces; a `note` stands alone; a `record` only carries the digests of rows that were written
    to other tables. agent: observer, planner, critic, guard, act, user or trainer; arguments,
    result: JSON; model, input_tokens, output_tokens: of a question to a language model.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["call", "result", "intent", "effect", "note", "record"]
    call_id: str
    agent: str
    tool: str
    step: int
    episode_id: str | None = None
    arguments: str | None = None
    result: str | None = None
    outcome: CallOutcome | None = None
    error_type: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_ms: float | None = None


class Recalled(BaseModel):
    """A past episode and how near its circumstances are (0: the same)."""

    model_config = ConfigDict(frozen=True)

    distance: float
    workload: Workload
    episode: Episode


class Journal:
    """One rank's record of one run. Every method is safe to call at any time and raises nothing;
    a journal that cannot write says so once on standard error, and tries again at each call.

    This class keeps nothing and knows nothing; SqliteJournal keeps.
    """

    def begin(self, workload: Workload) -> None:
        """A run begins, or goes on after the controller was restarted."""

    def add_window(self, window: Window) -> None:
        """Keep a window; its access slice by a stated rule."""

    def save(self, episode: Episode) -> None:
        """Keep an episode, replacing what was known of it under its id."""

    def log(self, entry: AuditEntry) -> bool:
        """Append to the audit log; True: the row is in the file and safe from a kill."""
        return True

    def add_model_call(self, call: ModelCall) -> None:
        """Keep a question to a model and its answer."""

    def add_inputs(self, inputs: DecisionInputs) -> None:
        """Keep what a decision rests on, replacing what was known of it under its id."""

    def next_number(self) -> int:
        """The number that the next episode takes: 0 at first, further on after a restart."""
        return 0

    def recall(self, observation: Observation, *, limit: int = 5) -> list[Recalled]:
        """The nearest past episodes with an outcome, good and bad, nearest first."""
        return []

    def unfinished(self) -> Episode | None:
        """After a restart: the newest episode if its outcome is missing, with the trainer's answer
        if that came."""
        return None

    def close(self) -> None:
        """End the run."""


class NullJournal(Journal):
    """Keeps nothing."""
