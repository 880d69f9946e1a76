"""Looking for settings with the what-if estimator, which is asked a bounded number of times."""

from __future__ import annotations

from collections.abc import Iterable

from rudder.agents.guard import Steps
from rudder.tools.calls import Effect
from rudder.tools.constants import MAX_ESTIMATES
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.training.settings import BufferSettings, Change


class Search:
    """Effects of settings, each asked for once; those that may not be set have none."""

    def __init__(
        self,
        whatif: WhatIf,
        limits: Limits,
        *,
        present: BufferSettings,
        steps: Steps,
        budget: int = MAX_ESTIMATES,
    ) -> None:
        self.present, self._whatif, self._limits = present, whatif, limits
        self._steps, self._left = steps, budget
        self._known: dict[BufferSettings, Effect] = {present: whatif.present()}

    @property
    def present_effect(self) -> Effect:
        """What the settings in force bring."""
        return self._known[self.present]

    @property
    def reach(self) -> tuple[int, int]:
        """The smallest and the largest capacity that one change may come to, in rows."""
        low, high = self._steps.reach(self.present.capacity_rows)
        high = min(self._limits.max_capacity_rows, high)
        return min(low + 1, high), high

    def may_set(self, settings: BufferSettings) -> bool:
        """Whether the run's limits allow a change to these settings."""
        change = Change.between(self.present, settings)
        return self._limits.problem(change, settings=self.present) is None

    def effect(self, settings: BufferSettings) -> Effect | None:
        """What settings would bring; None where they are not allowed or no estimate is left."""
        if settings in self._known:
            return self._known[settings]
        if self._left <= 0 or not self.may_set(settings):
            return None
        self._left -= 1
        self._known[settings] = self._whatif.effect(self.change_to(settings))
        return self._known[settings]

    def change_to(self, settings: BufferSettings) -> Change:
        """The change that leads there from the settings in force."""
        return Change.between(self.present, settings)

    def with_capacity(self, settings: BufferSettings, rows: int) -> BufferSettings:
        """The same settings with another capacity."""
        return settings.model_copy(update={"capacity_rows": rows})

    def first(self, candidates: Iterable[BufferSettings]) -> BufferSettings | None:
        """The first of some settings that may be set and can still be estimated."""
        return next((each for each in candidates if self.effect(each) is not None), None)
