"""The prompts: everything that a model is told.

They hold only numbers, and names from closed sets of our own types. Reasons, names of planners,
ids of runs, episodes and nodes are left out: others may have written them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rudder.agents.guard import DEFAULT_STEPS, Steps
from rudder.agents.llm.proposals import LookUp
from rudder.agents.planners.search import Search
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.calls import Effect, FetchCost, Range
from rudder.tools.estimate.means import Means
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change, FetchTargets
from rudder.training.steering_options import Objective
from rudder.training.workload import Workload

MAX_EPISODES = 5
MAX_CANDIDATES = 8
MAX_PEERS = 8
NO_CHANGE = Change()

_TERMS = """\
A trainer of a graph neural network keeps a buffer of feature rows of remote nodes (nodes that \
other machines own). A remote row found in the buffer is a hit; others cross the network (rows \
fetched). Exposed wait: time per step that the trainer stands still for data. OPT: the best that \
any buffer could do. Headroom: present minus OPT. Noise: what changes by itself. All figures are \
means per step of one trainer. lo..hi is a range; minus is less than now."""

_OBJECTIVES: dict[Objective, str] = {
    "time": "the shortest step, so least exposed wait; among settings equal within noise, fewest"
    " rows fetched; memory is a budget only",
    "traffic": "fewest rows fetched",
    "memory": "the smallest buffer that does not slow the steps",
}
_KNOBS = {
    "capacity_rows": "rows kept; more costs memory and time to fill, and saves traffic",
    "lookahead_batches": "batches sampled ahead; more costs memory, and comes nearer to OPT",
    "eviction_threshold": "uses per batch below which a row may be displaced; 1: every row",
    "replacement_interval": "batches between replacement rounds; a round moves rows",
}
_OBSERVER = (
    "You are the observer. Say what holds the trainer back (bottleneck) and where it goes"
    " (trend), from the figures alone."
)
_PLANNER = (
    "You are the planner. Set the knobs that serve the goal best, several at once if they belong"
    " together, or none to keep things. You may look up a few estimates and figures first. State"
    " the rows fetched and the exposed wait that you expect. A change that gains less than the"
    " noise is not worth its cost. Values outside the limits are refused."
)
_CRITIC = (
    "You are the critic. Approve the plan, refuse it, or trim it to a smaller capacity. Refuse"
    " what is expected to be worse than the present, or what failed before in like circumstances."
    " Unless you trim, repeat the plan's capacity_rows, or the present one if it has none."
)


@dataclass(frozen=True)
class Candidate:
    """A change and what the what-if estimator expects of it; cost: of rows that it fetches once."""

    change: Change
    effect: Effect
    cost: FetchCost | None = None


@dataclass(frozen=True)
class Briefing:
    """What all roles are told.

    present: estimated effect of the settings in force, None: not known; candidates: other changes;
    reach_rows: the capacities that one change may come to, None: all that the limits allow; stages:
    where the time of a step goes; look_ups: what the model has asked for.
    """

    observation: Observation
    limits: Limits
    objective: Objective
    present: Effect | None = None
    candidates: Sequence[Candidate] = ()
    recalled: Sequence[Recalled] = ()
    reach_rows: tuple[int, int] | None = None
    stages: Means | None = None
    look_ups: Sequence[LookUp] = ()

    def judged(self, **words: str) -> Briefing:
        """The same, with the observer's words in place of those of the observation."""
        return replace(self, observation=self.observation.model_copy(update=words))


def system_prompt(role: str) -> str:
    """Who the model is, and the terms; role: observer, planner or critic."""
    return f"{ {'observer': _OBSERVER, 'planner': _PLANNER, 'critic': _CRITIC}[role] }\n{_TERMS}"


def observer_prompt(briefing: Briefing) -> str:
    """The figures of the last windows, stage by stage, without the embedded observer's words."""
    figures = _window(briefing.observation, is_judged=False)
    return "\n".join([*_workload(briefing), *figures, *_stages(briefing)])


def planner_prompt(briefing: Briefing) -> str:
    """The figures, the knobs with limits and costs, what-if, and past episodes."""
    return "\n".join(
        [
            *_workload(briefing),
            *_knobs(briefing),
            *_window(briefing.observation),
            *_what_if(briefing),
            *_episodes(briefing.recalled),
            *_look_ups(briefing.look_ups),
        ]
    )


def critic_prompt(briefing: Briefing, plan: Plan) -> str:
    """What the planner was told, and its plan."""
    plan_line = f"PLAN: {_change(plan.change)}"
    if plan.expected is not None:
        plan_line += f" | planner expects {_effect(plan.expected)}"
    return f"{planner_prompt(briefing)}\n{plan_line}"


def _workload(briefing: Briefing) -> Iterator[str]:
    work: Workload = briefing.limits.workload
    left = briefing.observation.steps_left
    yield f"GOAL: {_OBJECTIVES[briefing.objective]}"
    yield (
        f"WORKLOAD: policy {work.shown_policy}; {_n(work.world_size)} trainers,"
        f" {_n(work.trainers_on_host)} on this host; {_n(work.num_parts)} partitions; nodes here"
        f" {_n(work.num_inner)}, halo {_n(work.num_halo)}, remote {_n(work.num_remote)};"
        f" {_n(work.row_bytes)} bytes a row; batches of {_n(work.batch_size)},"
        f" {_n(work.batches_per_epoch)} an epoch; steps left {_n(left)}"
    )


def _knobs(briefing: Briefing) -> Iterator[str]:
    limits, settings = briefing.limits, briefing.observation.settings
    yield "KNOBS (now; allowed; what it costs):"
    for bound in limits.bounds:
        now = _setting(settings, bound.knob)
        if limits.workload.refusal(bound.knob) is None and now is not None:
            low, high = bound.low, bound.high
            if bound.knob == "capacity_rows" and briefing.reach_rows is not None:
                low, high = briefing.reach_rows
            allowed = f"{_exact(low)}..{_exact(high)}"
            yield f"- {bound.knob}: {_exact(now)}; {allowed}; {_KNOBS[bound.knob]}"


def _window(seen: Observation, *, is_judged: bool = True) -> Iterator[str]:
    words = f"; bottleneck {seen.bottleneck}; trend {seen.trend}" if is_judged else ""
    yield (
        f"WINDOW: hit share {_n(seen.hit_fraction)}; remote rows {_n(seen.remote_rows)}; rows"
        f" fetched {_n(seen.rows_fetched)}; exposed wait {_n(seen.exposed_wait_ms)} ms of a"
        f" {_n(seen.step_ms)} ms step; working set {_n(seen.working_set_rows)} rows; loader ahead"
        f" by {_n(seen.spare_ms)} ms; drift {_n(seen.drift)}{words};"
        f" {'sets' if seen.sets_the_pace else 'does not set'} the pace of all"
    )
    yield (
        f"HEADROOM: {_n(seen.headroom_rows)} rows, {_n(seen.headroom_wait_ms)} ms"
        f" (noise {_n(seen.noise_rows)} rows, {_n(seen.noise_wait_ms)} ms)"
    )


def _stages(briefing: Briefing) -> Iterator[str]:
    """Sampling, pulling and assembling go on beside computing; what is late is waited for."""
    means, seen = briefing.stages, briefing.observation
    if means is not None:
        yield (
            f"STAGES (ms a step): sample {_n(means.sample_ms)}, pull {_n(means.pull_ms)}, assemble"
            f" {_n(means.assemble_ms)}, compute {_n(means.compute_ms)}"
        )
    waits = [f"{_n(1000 * peer.exposed_wait_seconds)}" for peer in seen.peers[:MAX_PEERS]]
    if waits:
        yield f"OTHER TRAINERS' exposed wait (ms a step): {', '.join(waits)}"


def _what_if(briefing: Briefing) -> Iterator[str]:
    """Differences from the estimate of now, so that what is wrong with both does not count."""
    present = briefing.present
    if present is None:
        return
    yield f"WHAT IF (estimated differences from keep: {_effect(present)}):"
    for each in briefing.candidates[:MAX_CANDIDATES]:
        yield f"- {_change(each.change)}: {_difference(each.effect, present)}{_cost(each.cost)}"


def _difference(effect: Effect, present: Effect) -> str:
    rows, wait = present.rows_fetched.mid, present.exposed_wait_ms.mid
    megabytes = (effect.buffer_bytes - present.buffer_bytes) / 2**20
    return (
        f"rows {_signed(effect.rows_fetched, rows)}, wait"
        f" {_signed(effect.exposed_wait_ms, wait)} ms, buffer {megabytes:+.3g} MiB"
    )


def _signed(values: Range, origin: float) -> str:
    low, high = values.low - origin, values.high - origin
    return f"{low:+.3g}..{high:+.3g}"


def _cost(cost: FetchCost | None) -> str:
    if cost is None:
        return ""
    steps = "never" if cost.steps is None else f"after {_n(cost.steps)} steps"
    return f", moves {_n(cost.rows)} rows, {_n(cost.link_ms)} ms of the link, there {steps}"


def _look_ups(found: Sequence[LookUp]) -> Iterator[str]:
    if found:
        yield "YOU LOOKED UP:"
    for each in found:
        yield f"- {each.call}: {each.answer}"


def _episodes(recalled: Sequence[Recalled]) -> Iterator[str]:
    finished = [each for each in recalled if each.episode.outcome is not None]
    if finished:
        yield "PAST CHANGES in like circumstances, nearest first:"
    for each in finished[:MAX_EPISODES]:
        yield f"- {_episode(each)}"


def _episode(recalled: Recalled) -> str:
    episode = recalled.episode
    seen, outcome, expected = episode.observation, episode.outcome, episode.plan.expected
    assert outcome is not None
    told = (
        f"distance {_n(recalled.distance)}; at capacity {_n(seen.settings.capacity_rows)},"
        f" lookahead {_n(seen.settings.lookahead_batches)}, hit share {_n(seen.hit_fraction)}:"
        f" {_change(episode.plan.change)}"
    )
    if expected is not None:
        told += f"; expected rows {_n(expected.rows_fetched.mid)},"
        told += f" wait {_n(expected.exposed_wait_ms.mid)} ms"
    return (
        f"{told}; measured rows {_n(outcome.rows_before)} -> {_n(outcome.rows_after)}, wait"
        f" {_n(outcome.wait_ms_before)} -> {_n(outcome.wait_ms_after)} ms; {outcome.result}"
    )


def _change(change: Change) -> str:
    parts = [
        f"{knob} {_exact(value)}" for knob in _KNOBS if (value := getattr(change, knob)) is not None
    ]
    if (targets := change.fetch_targets) is not None:
        parts.append(f"fetch_row_budget {_exact(targets.row_budget)}")
    if change.replace_now:
        parts.append("replace_now")
    return ", ".join(parts) or "keep"


def _effect(effect: Effect) -> str:
    megabytes = effect.buffer_bytes / 2**20
    return (
        f"rows {_range(effect.rows_fetched)}, wait {_range(effect.exposed_wait_ms)} ms,"
        f" buffer {_n(megabytes)} MiB"
    )


def _range(values: Range) -> str:
    return f"{_n(values.low)}..{_n(values.high)}"


def _setting(settings: BufferSettings, knob: str) -> float | None:
    value: float | None = getattr(settings, knob)
    return value


def _n(value: float | None) -> str:
    """A number in few characters; raises ValueError for what is none."""
    if value is None:
        return "unknown"
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def _exact(value: float) -> str:
    """A number that may be given back as a setting."""
    return f"{int(value):d}" if float(value).is_integer() else f"{value:.6g}"


_JOINT = ((0.0, 48), (0.0, None), (2.0, None), (2.0, 16), (0.5, None), (1.0, 48))
"""Capacity as a multiple of the present one (0: as large as may be) with a lookahead (None: the
present one)."""
_INTERVAL = 32


def brief(
    observation: Observation,
    recalled: Sequence[Recalled],
    toolbox: Toolbox,
    *,
    objective: Objective,
    proposal: Change = NO_CHANGE,
    steps: Steps = DEFAULT_STEPS,
) -> Briefing:
    """A briefing with estimates of the settings in force and of legal changes, of several knobs at
    once, too.

    proposal: of the embedded planner, comes first; steps: how far one change may go. Needs
    `toolbox.whatif.is_ready`.
    """
    search = Search(
        toolbox.whatif, toolbox.limits, present=observation.settings, steps=steps,
        budget=MAX_CANDIDATES,
    )  # fmt: skip
    return Briefing(
        observation=observation,
        limits=toolbox.limits,
        objective=objective,
        present=search.present_effect,
        candidates=tuple(_candidates(search, proposal, toolbox)),
        recalled=tuple(recalled),
        reach_rows=search.reach,
        stages=Means.of(toolbox.history.present),
    )


def _candidates(search: Search, proposal: Change, toolbox: Toolbox) -> Iterator[Candidate]:
    """The proposal, what fetches rows once, and other settings."""
    wanted = Change.between(search.present, proposal.over(search.present))
    once = [proposal] if proposal != wanted else []
    if search.present.capacity_rows and proposal.is_empty:
        targets = FetchTargets(
            source="observed", row_budget=search.present.capacity_rows, while_idle=True
        )
        once += [Change(fetch_targets=targets), Change(replace_now=True)]
    for change in once:
        if toolbox.limits.problem(change, settings=search.present) is None:
            effect = toolbox.whatif.effect(change)
            cost = toolbox.whatif.fetch_cost(change, rows_after=effect.rows_fetched.mid)
            yield Candidate(change, effect, cost)
    for settings in dict.fromkeys([wanted.over(search.present), *_settings(search)]):
        estimate = search.effect(settings)
        if settings != search.present and estimate is not None:
            yield Candidate(search.change_to(settings), estimate)


def _settings(search: Search) -> Iterator[BufferSettings]:
    present = search.present
    low, high = search.reach
    for factor, lookahead in _JOINT:
        rows = round(present.capacity_rows * factor) if factor else high
        ahead = present.lookahead_batches if lookahead is None else lookahead
        if low <= rows <= high:
            yield present.model_copy(update={"capacity_rows": rows, "lookahead_batches": ahead})
    yield present.model_copy(update={"eviction_threshold": 1.0})
    if present.replacement_interval is not None:
        yield present.model_copy(update={"replacement_interval": _INTERVAL})
