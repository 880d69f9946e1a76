"""Where to go before anything can be estimated: to what an earlier run on the same work came to;
or, from settings that are far from them, near those that Rudder begins with by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rudder.memory.journal import Recalled
from rudder.memory.records import Observation
from rudder.tools.effects import Effect
from rudder.training.settings import (
    DEFAULT_BUFFER_FRACTION,
    DEFAULT_LOOKAHEAD_BATCHES,
    BufferSettings,
    Change,
)
from rudder.training.workload import Workload

_MIN_GAIN = 0.1
"""Share of the step that the trainer must wait, or wait longer than it did in an earlier run."""
_WAITS_MOSTLY = 0.5
"""Share of the step from which on a trainer is given room for the whole halo: what turns out not to
be needed is given back."""
_FIRST_LOOKAHEAD = 16
"""Batches: enough to begin with. To draw 40 of them ahead at once takes cores as long as a short
epoch does, while the trainer waits already; the planner may look further ahead later."""
_FAR = 4
"""A knob is far from its default below this part of it."""


@dataclass(frozen=True)
class FirstSettings:
    """Settings that are likely to serve better; effect: what to expect, None: nobody knows."""

    settings: BufferSettings
    effect: Effect | None
    reason: str

    @classmethod
    def of(
        cls, recalled: Sequence[Recalled], observation: Observation, workload: Workload
    ) -> FirstSettings | None:
        """None where there is no evidence, or nothing much to be gained.

        Before the first window only an earlier run can tell, and is believed.
        """
        precedent, is_begun = Precedent.of(recalled, workload), observation.step_ms > 0
        if precedent is None:
            return _defaults(observation, workload) if is_begun else None
        gain_ms = observation.exposed_wait_ms - precedent.exposed_wait_ms
        if is_begun and gain_ms < _MIN_GAIN * observation.step_ms:
            return None
        if precedent.settings == observation.settings:
            return None
        reason = "an earlier run on the same work came to these settings"
        effect = precedent.effect(row_bytes=workload.row_bytes)
        return cls(precedent.settings, effect, reason)

    def leads_to(self, change: Change, *, settings: BufferSettings) -> bool:
        """Whether a change of these settings goes there, by its capacity at least in part, and
        does nothing else."""
        wanted = change.over(settings)
        low, high = sorted((settings.capacity_rows, self.settings.capacity_rows))
        same = {"capacity_rows": wanted.capacity_rows}
        return (
            low <= wanted.capacity_rows <= high
            and wanted == self.settings.model_copy(update=same)
            and change == Change.between(settings, wanted)
        )


def _defaults(observation: Observation, workload: Workload) -> FirstSettings | None:
    """The defaults of the policy `lookahead`, for a trainer that waits far away from them; more
    rows for one that does little else."""
    present, share = observation.settings, observation.exposed_wait_ms / observation.step_ms
    fraction = 1.0 if share > _WAITS_MOSTLY else DEFAULT_BUFFER_FRACTION
    rows = min(round(fraction * workload.num_halo), workload.max_buffer_rows)
    is_far = (
        present.capacity_rows < DEFAULT_BUFFER_FRACTION * workload.num_halo / _FAR
        or present.lookahead_batches < DEFAULT_LOOKAHEAD_BATCHES / _FAR
    )
    if workload.policy != "lookahead" or not is_far or share <= _MIN_GAIN:
        return None
    settings = BufferSettings(
        capacity_rows=max(rows, present.capacity_rows),
        lookahead_batches=max(_FIRST_LOOKAHEAD, present.lookahead_batches),
        replacement_interval=present.replacement_interval,
    )
    return FirstSettings(settings, None, "the trainer waits, far from the default settings")
