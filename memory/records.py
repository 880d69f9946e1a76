"""The record of one decision, from the observation to its outcome.

    Observation, recalled episodes -> Plan -> Verdict -> GuardResult -> Command, Applied -> Outcome

Nothing in it is free text from outside: only numbers, names of our own, and reasons that our code
or a checked model answer gave.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from rudder.tools.calls import Effect, StepTimes, ToolCall
from rudder.tools.estimate.means import Trend
from rudder.training.metrics import StepTiming
from rudder.training.settings import Applied, BufferSettings, Change, FrozenExact
from rudder.training.steering_options import Objective
from rudder.training.turn import RankTurn

Bottleneck = Literal["none", "network", "loader", "peers", "unknown"]
Text = Annotated[str, Field(max_length=2000)]


class Observation(FrozenExact):
    """What the observer found in the last windows. Means per step; None: not known yet.

    step: the last window's first step after its end; window: its index; headroom_rows,
    headroom_wait_ms: what OPT at the largest allowed capacity would save;
    noise_rows, noise_wait_ms, noise_step_ms: spread between windows that no setting explains;
    drift: share of the last window's sampled nodes that the windows before it did not use (0 to 1)
    less what is usual; spare_ms: by how much the loader is ahead of the trainer, per step; row_ms:
    what a row takes over the network, which tells how fast the link is; max_capacity_rows: the
    largest buffer that memory and limits allow. Records of before version 0.2 have neither.
    hot_rows: rows of an earlier run's hot set that the trainer can fetch before its first batch;
    turn: the newest of the job; times: where the time of a step goes, and what binds.
    """

    step: int
    window: int
    steps_left: int | None
    settings: BufferSettings
    bottleneck: Bottleneck
    trend: Trend
    hit_fraction: float | None
    remote_rows: float
    rows_fetched: float
    exposed_wait_ms: float
    step_ms: float
    noise_rows: float
    noise_wait_ms: float
    headroom_rows: float | None
    headroom_wait_ms: float | None
    spare_ms: float | None
    drift: float | None
    working_set_rows: int | None
    peers: tuple[StepTiming, ...] = ()
    sets_the_pace: bool = True
    row_ms: float | None = None
    max_capacity_rows: int | None = None
    hot_rows: int = 0
    turn: RankTurn | None = None
    times: StepTimes | None = None
    noise_step_ms: float | None = None

    @property
    def exposed_fraction(self) -> float:
        """Exposed wait over step time."""
        return self.exposed_wait_ms / self.step_ms if self.step_ms > 0 else 0.0

    def has_headroom(self, objective: Objective) -> bool:
        """Whether something could be gained that would show over the noise: rows, or for other
        objectives than `traffic` also time."""
        rows = self.headroom_rows is not None and self.headroom_rows > self.noise_rows
        wait = self.headroom_wait_ms is not None and self.headroom_wait_ms > self.noise_wait_ms
        return rows or (wait and objective != "traffic")


class Plan(FrozenExact):
    """What a planner proposes: one change (empty: keep the settings) and its expected effect.

    calls: tool calls by which a model proposed it; asked_step: the step of the observation about
    which it was asked, some time before; None without a model, and in records of up to version
    0.2. propensity: the probability with which a planner that explores proposed this change; None
    for other planners. turn: number of the turn of another rank whose change this rank makes, too;
    None for a plan of its own.
    """

    planner: str
    change: Change
    expected: Effect | None
    reason: Text
    calls: tuple[ToolCall, ...] = ()
    asked_step: int | None = None
    propensity: float | None = Field(None, gt=0, le=1)
    turn: int | None = None


class Verdict(FrozenExact):
    """The critic's decision on a plan; `change`: what it approves, smaller if it trims."""

    decision: Literal["approve", "trim", "refuse"]
    critic: str
    change: Change
    expected: Effect | None
    reason: Text


class GuardResult(FrozenExact):
    """The guard's decision; `rule` names the bound that a refused change broke."""

    allowed: bool
    rule: str | None
    reason: Text


class Rejected(FrozenExact):
    """A first plan that came to nothing, after which another planner was asked; verdict, guard: as
    far as it got, None for both if it was to keep things."""

    plan: Plan
    verdict: Verdict | None = None
    guard: GuardResult | None = None


class Outcome(FrozenExact):
    """The effect of a change, measured over its trial, against the windows before it.

    *_before, *_after: means per step; noise as in Observation; rows_expected: of the steps of
    rows_after (a buffer that grows fetches less from step to step, so it need not be what was
    expected once it has settled); rows_error: (measured - expected) over the rows expected, or
    over a fifth of the rows before where fewer are expected.
    """

    result: Literal["confirmed", "reverted", "refused", "expired", "kept", "abandoned"]
    rows_before: float | None = None
    rows_after: float | None = None
    wait_ms_before: float | None = None
    wait_ms_after: float | None = None
    noise_rows: float | None = None
    noise_wait_ms: float | None = None
    rows_expected: float | None = None
    rows_error: float | None = None
    reason: Text = ""


class Episode(FrozenExact):
    """One decision of one trainer; finished once it has an outcome.

    rejected: what was proposed before `plan`; None where `plan` was the first. Records name it
    `set_aside`. turn: number of the turn of this rank or another in which it was made.
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    episode_id: str
    run_key: str
    rank: int
    number: int
    turn: int | None = None
    observation: Observation
    recalled: tuple[str, ...] = ()
    rejected: Rejected | None = Field(None, alias="set_aside")
    plan: Plan
    verdict: Verdict | None = None
    guard: GuardResult | None = None
    command_id: str | None = None
    applied: Applied | None = None
    outcome: Outcome | None = None

    @property
    def plans(self) -> tuple[Plan, ...]:
        """What was proposed, in that order."""
        return (self.plan,) if self.rejected is None else (self.rejected.plan, self.plan)
