"""The most rows that one trainer's buffer may have."""

from __future__ import annotations

from pathlib import Path

from rudder.training.machine import rows_per_trainer
from rudder.training.workload import Workload


class MemoryQuota:
    """One trainer's fixed share of its host's memory, and of the memory budget if there is one.

    All trainers of a host have the same share. The budget may change while the run goes on. A
    buffer that exceeds the limit, as after a cut of the budget, may shrink but not grow.
    """

    def __init__(
        self,
        workload: Workload,
        *,
        budget_bytes: int | None = None,
        budget_file: Path | None = None,
    ) -> None:
        """budget_bytes: of all buffers of the host, None: no budget; budget_file: holds another
        budget in bytes once somebody has changed it."""
        self._workload = workload
        self._first_budget, self._budget_file = budget_bytes, budget_file
        self.refresh()

    def refresh(self) -> None:
        """See whether the budget has changed."""
        self._budget = read_budget(self._budget_file, self._first_budget)

    @property
    def limit_rows(self) -> int:
        """The most rows that the buffer may have now."""
        work = self._workload
        if self._budget is None:
            return work.max_buffer_rows
        share = rows_per_trainer(
            self._budget, trainers=work.trainers_on_host, row_bytes=work.row_bytes
        )
        return min(share, work.max_buffer_rows)

    def refusal(self, rows: int, *, current_rows: int) -> str | None:
        """Why the buffer cannot go from `current_rows` to `rows`, or None."""
        limit = self.limit_rows
        if rows <= max(limit, current_rows):
            return None
        what = "memory" if limit == self._workload.max_buffer_rows else "memory budget"
        return (
            f"capacity_rows = {rows} is more than this trainer's share of the host's {what};"
            f" allowed: 0 to {limit}"
        )


def read_budget(file: Path | None, otherwise: int | None) -> int | None:
    """The budget in bytes that the file holds; `otherwise` where it holds no valid one."""
    if file is None:
        return otherwise
    try:
        budget = int(file.read_text())
    except (OSError, ValueError):
        return otherwise
    return budget if budget >= 0 else otherwise
