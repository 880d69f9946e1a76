"""What a controller does with each window: a running trial first, else the next decision.

The same code steers a live trainer (agents/controller/__main__.py) and a simulated one; they
differ in the actuator only.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Literal, TypeAlias

from rudder.agents.actuator import Actuator, Sender
from rudder.agents.graph import Graph, build_graph, decide
from rudder.agents.guard import Guard, limit_plan
from rudder.agents.llm.consultation import asks_model
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.agents.recall import EpisodeRecall
from rudder.agents.recording import DecisionRecorder
from rudder.agents.regime import FILLING, moves
from rudder.agents.roles import DecisionState
from rudder.agents.starting_point import WarmTrial
from rudder.agents.team import Team, joining_team, make_team, preference_of, steps_of
from rudder.agents.trial import Trial, TrialCriteria
from rudder.agents.turns import TEAM, JoinedTrial, TurnStore, TurnTaking, goes_together
from rudder.memory.journal import Journal
from rudder.memory.records import Episode, Observation, Outcome, Plan, Verdict
from rudder.tools.constants import (
    FIRST_LOOKAHEAD_BATCHES,
    HIDDEN_SHARE,
    HOLDS_ALL_WINDOW_S,
    KEPT_TO_REST,
    RECENT_WINDOWS,
    REST_WINDOW_S,
    SLOWED_SHARE,
    WINDOW_STEPS,
)
from rudder.tools.estimate.history import History
from rudder.tools.estimate.means import has_slowed, waits
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
from rudder.training.control.messages import FULL_ATTENTION, MAX_WINDOW_STEPS, Attention
from rudder.training.metrics import Window
from rudder.training.settings import Applied, Change
from rudder.training.steering_options import Objective, SteeringOptions
from rudder.training.turn import RankTurn, TurnState
from rudder.training.workload import Workload


class DecisionBackoff:
    """Pauses of 1, 2, 4 and then 8 windows between decisions that keep things. Where nothing can be
    gained, none is made after the fifth of them. A window that looks different ends any pause."""

    def __init__(self) -> None:
        self._kept: Observation | None = None
        self._left = self._num_kept = 0

    @property
    def is_resting(self) -> bool:
        """Whether no decision is made until something changes."""
        return self._num_kept >= KEPT_TO_REST and not _may_gain(self._kept)

    def begin(self, observation: Observation) -> None:
        """Things are kept as they are."""
        self._kept, self._left = observation, min(2**self._num_kept, RECENT_WINDOWS)
        self._num_kept += 1

    def end(self) -> None:
        """Something was changed: look at every window again."""
        self._kept, self._left, self._num_kept = None, 0, 0

    def is_over(self, window: Window) -> bool:
        """Whether to look again now that this window is there."""
        self._left -= 1
        if self._kept is not None and _is_other(window, self._kept):
            self.end()
        return self._kept is None or (self._left < 0 and not self.is_resting)


def _may_gain(seen: Observation | None) -> bool:
    """Whether the best buffer possible would save time, or nobody knows that yet."""
    if seen is None or seen.headroom_wait_ms is None:
        return True
    return seen.headroom_wait_ms > max(seen.noise_wait_ms, HIDDEN_SHARE * seen.step_ms)


def _is_other(window: Window, kept: Observation) -> bool:
    """Whether a window is a reason to decide again. Where nothing could be gained, less of anything
    is none, nor are waits that a busy host brings."""
    if _may_gain(kept):
        return bool(moves(window, kept))
    return not FILLING.issuperset(moves(window, kept, wait_share=SLOWED_SHARE))


def _resting(window: Window | None, *, window_s: float) -> Attention:
    """Windows of at least so many seconds where steps take 4 ms or more, without accesses."""
    steps = WINDOW_STEPS
    if window is not None and window.num_steps:
        step_s = window.trained_seconds / window.num_steps
        while steps * step_s < window_s and steps < MAX_WINDOW_STEPS:
            steps *= 2
    return Attention(window_steps=steps, accesses=False)


Refusal: TypeAlias = Literal["expired", "refused"]
AnyTrial: TypeAlias = Trial | WarmTrial | JoinedTrial
_STATES: dict[str, TurnState] = {"confirmed": "confirmed", "reverted": "reverted"}
"""Of a turn, by the outcome of its change; all others leave it abandoned."""


def _always() -> bool:
    return True


class Steering:
    """Takes windows, and returns the episodes that each window began, changed or ended."""

    def __init__(
        self,
        workload: Workload,
        *,
        sender: Sender,
        journal: Journal,
        options: SteeringOptions,
        team: Team | None = None,
        may_decide: Callable[[], bool] = _always,
        turns: TurnStore | None = None,
    ) -> None:
        """sender: the line to the trainer; team: default: the one that the options name.

        may_decide: asked before each decision, such as a budget of processor time; turns: what the
        ranks agree over, None: this one decides whenever it wants to.
        """
        self._guard = Guard(steps_of(options))
        self._preference, self._trial_windows = preference_of(options), options.trial_windows
        self.recorder = DecisionRecorder(
            journal, guard=self._guard, preference=self._preference, seed=options.seed
        )
        self.team = team or make_team(
            options, workload, self._preference, on_exchange=self.recorder.on_exchange
        )
        self.actuator = Actuator(sender, journal=journal)
        self._journal, self._may_decide = journal, may_decide
        self._episode_recall = EpisodeRecall(journal, workload=workload)
        self.toolbox = self._make_toolbox(workload, options)
        self._graph = self._make_graph(self.team)
        self._joining = self._make_graph(joining_team())
        self._turns = TurnTaking(turns, workload)
        self._next_number = 0
        self._episode: Episode | None = None
        self._trial: AnyTrial | None = None
        self._backoff = DecisionBackoff()
        self._is_short = False

    def _make_toolbox(self, workload: Workload, options: SteeringOptions) -> Toolbox:
        history = History(workload)
        limits = Limits.of(workload, memory_budget_bytes=options.memory_budget_bytes)
        whatif, recall = WhatIf(history), self._episode_recall.last
        return Toolbox(history, limits, whatif, recall, on_call=self.recorder.on_call)

    def _make_graph(self, team: Team) -> Graph:
        return build_graph(
            observer=team.observer,
            planner=team.planner,
            second=team.second,
            critic=team.critic,
            guard=self._guard,
            act=self.actuator,
            recall=self._episode_recall.recall,
            recorder=self.recorder,
        )

    @property
    def attention(self) -> Attention:
        """What the trainer is to show from now on: little where nothing can be gained, and while
        no decision may be made and the trainer waits for nothing."""
        latest = self.toolbox.history.latest
        if self._trial is not None:
            return FULL_ATTENTION
        if self._holds_all and not self.is_beyond_limits:
            return _resting(latest, window_s=HOLDS_ALL_WINDOW_S)
        is_short = self._is_short and latest is not None and not waits(latest)
        is_quiet = self._backoff.is_resting or is_short
        return _resting(latest, window_s=REST_WINDOW_S) if is_quiet else FULL_ATTENTION

    @property
    def _holds_all(self) -> bool:
        """Whether each remote row is fetched once, whatever else is set, and that is the aim.

        Only of the embedded planner, with a model or without: others explore, or keep to a rhythm.
        """
        work, settings = self.toolbox.history.workload, self.toolbox.history.settings
        return (
            (self.team.second or self.team.planner).name == EmbeddedPlanner.name
            and not self._preference.saves_memory
            and work.policy == "lookahead"
            and settings.capacity_rows >= work.num_remote
            and settings.lookahead_batches >= FIRST_LOOKAHEAD_BATCHES
            and not self._is_to_ask
        )

    @property
    def is_on_trial(self) -> bool:
        """Whether a change waits for its outcome."""
        return self._trial is not None

    @property
    def is_beyond_limits(self) -> bool:
        """Whether the buffer is larger than the limits allow."""
        return limit_plan(self.toolbox) is not None

    def number_from(self, number: int) -> None:
        """Go on counting decisions from here, as after a restart."""
        self._next_number = max(self._next_number, number)

    async def begin(self) -> Episode | None:
        """Before the first window: go where an earlier run on the same work came to, if one did.

        Not after a restart. Raises as `take`.
        """
        is_first = self._next_number == 0 and self.toolbox.history.latest is None
        return await self._decide(self._graph) if is_first else None

    async def take(self, window: Window) -> tuple[Episode, ...]:
        """Take in a window and decide on it; the episodes that it ended and began, if any.

        Raises RunError where the trainer does not answer, UnrecordedError where a change cannot be
        recorded: a trial then goes on.
        """
        self.note(window)
        return await self.decide_on(window)

    async def decide_on(self, window: Window) -> tuple[Episode, ...]:
        """The same with a window that was taken in already."""
        ended = None
        await self._turns.settle()
        if self._trial is not None:
            ended = await self._try(self._trial, window)
            if ended is None or ended.outcome is None or ended.outcome.result != "confirmed":
                return () if ended is None else (ended,)
        begun = await self._next(window)
        return tuple(episode for episode in (ended, begun) if episode is not None)

    async def _next(self, window: Window) -> Episode | None:
        """The next decision, if it is time for one and no other rank's turn, or another rank's
        change."""
        if has_slowed(self.toolbox.history.windows):
            self._guard.acquit()
        most_rows = self.toolbox.limits.max_capacity_rows
        if self._guard.is_quiet(self.toolbox.history.next_step):
            return None
        joined = self._turns.to_join(window, most_rows=most_rows)
        if joined is not None:
            await self._ask_out_of_turn()
            return await self._decide(self._joining, joined)
        is_over = self._backoff.is_over(window) and not self._holds_all
        if not is_over and not self._has_news:
            return None
        kept = self._turns.kept(window, most_rows=most_rows)
        if kept is not None and not self._asks_model(window):
            await self._keep_as(kept)
            return None
        self._is_short = not self._may_decide()
        if self._is_short:
            return None
        if await self._turns.take(window):
            return await self._decide_in_turn()
        await self._ask_out_of_turn()
        return None

    async def _keep_as(self, turn: RankTurn) -> None:
        """Keep things, for another rank in like circumstances came to that."""
        seen = await EmbeddedObserver(estimates=False).observe(self.toolbox)
        self._backoff.begin(seen.model_copy(update={"headroom_wait_ms": turn.headroom_wait_ms}))

    async def _ask_out_of_turn(self) -> None:
        """Ask the job's model for the first time, though it is another rank's turn."""
        adviser = self.team.adviser
        if adviser is None or not self._is_to_ask:
            return
        nothing = Plan(planner=TEAM, change=Change(), expected=None, reason="")
        with self.recorder.asking(self.toolbox.history.next_step):
            seen = await EmbeddedObserver().observe(self.toolbox)
            await adviser.offer(nothing, seen, (), self.toolbox)

    async def _decide_in_turn(self) -> Episode | None:
        episode = None
        try:
            episode = await self._decide(self._graph)
        finally:
            most_rows = self.toolbox.limits.max_capacity_rows
            await self._turns.decided(episode, is_on_trial=self.is_on_trial, most_rows=most_rows)
        return episode

    def _asks_model(self, window: Window) -> bool:
        """Whether this rank's decisions are those in which the job's model is asked."""
        return self.team.asker is not None and asks_model(window.rank, peers=window.peers)

    @property
    def _is_to_ask(self) -> bool:
        """Whether this rank is the one to ask the job's model, and has not asked it yet."""
        asker, latest = self.team.asker, self.toolbox.history.latest
        if asker is None or latest is None or asker.has_asked:
            return False
        return self._asks_model(latest)

    @property
    def last(self) -> Episode | None:
        """The last decision that agents made, as it is in the record."""
        return self._episode

    @property
    def _has_news(self) -> bool:
        """Whether a model has answered since the last decision."""
        return self.team.asker is not None and self.team.asker.background.has_answer

    def note(self, window: Window) -> None:
        """Take in a window that nothing is decided on."""
        self._turns.note(window)
        self.toolbox.history.add(window)
        self._journal.add_window(window)

    def seek(self, objective: Objective) -> bool:
        """Decide by this objective from now on; whether it is another one."""
        if objective == self._preference.objective:
            return False
        self._preference.objective = objective
        self.wake()
        return True

    def wake(self) -> None:
        """Something has changed that windows do not show: decide again on the next one."""
        self._backoff.end()

    def abandon(self, reason: str) -> Episode | None:
        """Give up what is on trial, as things are; the episode that this ends, if any."""
        if self._trial is None or self._episode is None:
            return None
        self._trial = None
        self._turns.give_up()
        self._guard.closed(is_revert=False, step=self.toolbox.history.next_step)
        outcome = Outcome(result="abandoned", reason=reason)
        self._episode = self._episode.model_copy(update={"outcome": outcome})
        self._journal.save(self._episode)
        return self._episode

    async def keep_to_limits(self) -> Episode | None:
        """Shrink a buffer that is larger than the limits allow, as after a budget was cut.

        No agent is asked, and no trial follows. Raises as `take`.
        """
        history, plan = self.toolbox.history, limit_plan(self.toolbox)
        if plan is None:
            return None
        self.abandon("a limit must be kept to")
        episode_id = uuid.uuid4().hex
        self.recorder.begin(self.toolbox, episode_id=episode_id)
        with self.recorder.passing("observe", self.toolbox):
            observation = await EmbeddedObserver().observe(self.toolbox)
        with self.recorder.passing("plan", self.toolbox):
            self.recorder.said(plan)  # it was made before, of the same windows
        applied = await self.actuator.carry_out(
            plan.change, observation=observation, episode_id=episode_id
        )
        self._backoff.end()
        result: Literal["confirmed", "refused"] = (
            "confirmed" if applied.outcome == "applied" else "refused"
        )
        episode = Episode(
            episode_id=episode_id,
            run_key=history.workload.run_key,
            rank=history.workload.rank,
            number=self._take_number(),
            observation=observation,
            plan=plan,
            command_id=applied.command_id,
            applied=applied,
            outcome=Outcome(result=result, reason=plan.reason),
        )
        self._journal.save(episode)
        return episode

    async def _try(self, trial: AnyTrial, window: Window) -> Episode | None:
        outcome = trial.feed(window)
        if outcome is None or self._episode is None:
            return None
        is_revert = outcome.result == "reverted"
        if is_revert and not (undo := self._within_limits(trial.undo)).is_empty:
            await self.actuator.carry_out(
                undo,
                observation=self._episode.observation,
                episode_id=self._episode.episode_id,
                purpose="revert_change",
            )
        self._trial = None
        await self._turns.close(_STATES.get(outcome.result, "abandoned"))
        self._backoff.end()
        self._guard.closed(is_revert=is_revert, step=self.toolbox.history.next_step)
        episode = self._episode.model_copy(update={"outcome": outcome})
        self._journal.save(episode)
        self._episode_recall.learn(episode)
        self._note_error(outcome)
        return episode

    def _within_limits(self, undo: Change) -> Change:
        """As far back as the limits allow: they may have come down since the change."""
        most = self.toolbox.limits.max_capacity_rows
        if undo.capacity_rows is None or undo.capacity_rows <= most:
            return undo
        return undo.model_copy(update={"capacity_rows": most})

    def _note_error(self, outcome: Outcome) -> None:
        """Let the estimator know how wrong it was, where the buffer had settled."""
        if outcome.result == "confirmed" and outcome.rows_error is not None:
            self.toolbox.whatif.note_error(outcome.rows_error)

    async def _decide(self, graph: Graph, joined: RankTurn | None = None) -> Episode | None:
        """joined: the turn of another rank in which this one makes the same change."""
        episode_id = uuid.uuid4().hex
        state = await decide(graph, toolbox=self.toolbox, episode_id=episode_id)
        if "proposal" not in state:
            return None
        episode = self._episode_of(state, episode_id)
        applied = episode.applied
        if applied is not None and episode.outcome is None and episode.verdict is not None:
            trial = self._trial_of(episode.verdict, episode.observation, applied)
            if joined is not None and isinstance(trial, Trial):
                self._trial = JoinedTrial(trial, joined)
            else:
                self._trial = trial
            self._guard.opened()
        elif episode.outcome is not None:
            self._backoff.begin(episode.observation)
        self._episode = episode
        self._journal.save(episode)
        return episode

    def _trial_of(
        self, verdict: Verdict, before: Observation, applied: Applied
    ) -> Trial | WarmTrial:
        is_joint = self._turns.are_agreed and goes_together(verdict.change, before.settings)
        if not before.step_ms:
            return WarmTrial(applied=applied, expected=verdict.expected)
        whatif, step = self.toolbox.whatif, applied.step
        return Trial(
            verdict.change,
            applied=applied,
            before=before,
            expected=verdict.expected,
            course=whatif.course(verdict.change, applied_step=step) if whatif.is_ready else (),
            criteria=TrialCriteria(
                windows=self._trial_windows,
                objective=self._preference.objective,
                tolerance=self._preference.tolerance,
                is_joint=is_joint,
            ),
        )

    def _take_number(self) -> int:
        number, self._next_number = self._next_number, self._next_number + 1
        return number

    def _episode_of(self, state: DecisionState, episode_id: str) -> Episode:
        workload, applied = self.toolbox.history.workload, state.get("applied")
        return Episode(
            episode_id=episode_id,
            run_key=workload.run_key,
            rank=workload.rank,
            number=self._take_number(),
            turn=self._turns.number_at(state["observation"].step),
            observation=state["observation"],
            recalled=tuple(each.episode.episode_id for each in state["recalled"]),
            rejected=state.get("rejected"),
            plan=state["proposal"],
            verdict=state.get("verdict"),
            guard=state.get("ruling"),
            command_id=applied.command_id if applied else None,
            applied=applied,
            outcome=_outcome_of(state),
        )


def _outcome_of(state: DecisionState) -> Outcome | None:
    """The outcome of a decision that changed nothing; None while a change is on trial."""
    if "verdict" not in state:
        return Outcome(result="kept", reason=state["proposal"].reason)
    ruling, applied = state.get("ruling"), state.get("applied")
    if ruling is None:
        return Outcome(result="refused", reason=state["verdict"].reason)
    if applied is None:
        result: Refusal = "expired" if ruling.rule == "stale" else "refused"
        return Outcome(result=result, reason=ruling.reason)
    if applied.outcome == "refused":
        return Outcome(result="refused", reason=applied.reason or "")
    before = state["observation"]
    if not before.step_ms and applied.settings == before.settings:
        return Outcome(result="confirmed", reason="rows come while the link idles: nothing to try")
    return None
