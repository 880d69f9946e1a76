"""What a controller records of a run, and the interface by which it records and recalls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rudder.memory.records import Episode, Observation
from rudder.tools.estimate.calibration import Learned
from rudder.training.buffer.hot_set import HotSet
from rudder.training.metrics import Window
from rudder.training.settings import Frozen, FrozenExact
from rudder.training.steering_options import Objective
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
Node = Literal["observe", "plan", "criticise", "reconsider", "guard"]


class AuditEntry(Frozen):
    """One row of the audit log: a call, or what became of one.

    kind: `call` and `result` are joined by call_id; an `intent` comes before the `effect` that it
    announces; a `note` stands alone; a `record` carries the digests of rows that were written to
    other tables, or where another rank's log ended. agent: observer, planner, critic, guard, act,
    user, schedule, mcp or trainer; arguments, result: JSON; model, input_tokens, output_tokens: of
    a question to a language model.
    """

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


class ModelCall(Frozen):
    """One question; messages and answer are JSON as sent and as it came, without secrets.

    answer: None where none came; tokens_source: who counted the tokens.
    """

    call_id: str
    agent: str
    step: int
    model: str
    messages: str
    answer: str | None
    latency_ms: float
    episode_id: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    tokens_source: Literal["server", "estimated", "missing"] = "missing"
    error_type: str | None = None


class GuardState(FrozenExact):
    """in_flight: a change is on trial; quiet_until: the step before which nothing is changed."""

    in_flight: bool = False
    quiet_until: int = 0


FRESH = GuardState()
"""Of a guard that nothing was told yet."""


class Passage(FrozenExact):
    """One node of the graph: how many windows were known when it began, and when it was done.

    Windows go on coming while a model thinks.
    """

    node: Node
    begin: int
    end: int


class DecisionInputs(FrozenExact):
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


class KeptInputs(FrozenExact):
    """A decision's inputs; session, version: of the controller, and of its Rudder; first_window:
    the number of the row in `windows` that this controller wrote first."""

    session: int
    version: str
    first_window: int
    inputs: DecisionInputs


class Recalled(Frozen):
    """A past episode and how near its circumstances are (0: the same)."""

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

    def add_inputs(self, inputs: DecisionInputs, *, calls: Sequence[AuditEntry] = ()) -> None:
        """Keep what a decision rests on, replacing what was known of it under its id.

        calls: of tools, by its agents, to be logged with it.
        """

    def next_number(self) -> int:
        """The number that the next episode takes: 0 at first, further on after a restart."""
        return 0

    def recall(self, observation: Observation, *, limit: int = 5) -> list[Recalled]:
        """The nearest past episodes with an outcome, good and bad, nearest first."""
        return []

    def hot_set(self) -> HotSet | None:
        """What the last run on the same work used most; None where nothing is known."""
        return None

    def unfinished(self) -> Episode | None:
        """After a restart: the newest episode if its outcome is missing, with the trainer's answer
        if that came."""
        return None

    def close(self) -> None:
        """End the run."""
