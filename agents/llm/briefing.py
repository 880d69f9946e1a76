"""Gathers what a model is told: figures, limits, and what a few changes would bring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rudder.agents.guard import DEFAULT_STEPS, Steps
from rudder.agents.planners.search import Search
from rudder.agents.prompts import MAX_CANDIDATES, Briefing, Candidate
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change
from rudder.training.steering_options import Objective

MAX_ESTIMATES = MAX_CANDIDATES - 1
_CAPACITY_FACTORS = (2.0, 4.0, 0.5)
_LOOKAHEADS = (16, 48)
_INTERVAL = 32


def brief(
    observation: Observation,
    recalled: Sequence[Recalled],
    toolbox: Toolbox,
    *,
    objective: Objective,
    steps: Steps = DEFAULT_STEPS,
) -> Briefing:
    """A briefing with estimates of the settings in force and of legal changes of one knob each.

    steps: how far one change may go. Needs `toolbox.whatif.is_ready`.
    """
    search = Search(
        toolbox.whatif,
        toolbox.limits,
        present=observation.settings,
        steps=steps,
        budget=MAX_ESTIMATES,
    )
    shown = [Candidate(Change(), search.present_effect)]
    for settings in dict.fromkeys(_settings(search)):
        effect = search.effect(settings)
        if settings != search.present and effect is not None:
            shown.append(Candidate(search.change_to(settings), effect))
    return Briefing(
        observation=observation,
        limits=toolbox.limits,
        objective=objective,
        candidates=tuple(shown),
        recalled=tuple(recalled),
        reach_rows=search.reach,
    )


def _settings(search: Search) -> Iterator[BufferSettings]:
    present = search.present
    low, high = search.reach
    for factor in _CAPACITY_FACTORS:
        rows = round(present.capacity_rows * factor)
        if low <= rows <= high:
            yield search.with_capacity(present, rows)
    yield search.with_capacity(present, high)
    for lookahead in _LOOKAHEADS:
        yield present.model_copy(update={"lookahead_batches": lookahead})
    yield present.model_copy(update={"eviction_threshold": 1.0})
    if present.replacement_interval is not None:
        yield present.model_copy(update={"replacement_interval": _INTERVAL})
