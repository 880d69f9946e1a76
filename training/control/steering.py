"""Applies commands to the policy, and goes back to the defaults when no controller steers.

Runs in the loader's thread, so that settings change between two batches. It does not depend on a
controller: the settings of one that has stopped do not stay in force.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from rudder.training.buffer.hot_set import MAX_HOT_ROWS, NO_HOT_SET, HotSet
from rudder.training.buffer.policy import Policy
from rudder.training.control.messages import Intervention, SteeringState, Tool
from rudder.training.control.service import ControlPort
from rudder.training.errors import complain
from rudder.training.machine import rows_per_trainer
from rudder.training.settings import Applied, Change, Command, Origin
from rudder.training.steering_options import OBJECTIVES, Objective
from rudder.training.workload import Workload

OFF_FILE = "steering-off"
"""While a file of this name is beside the sockets, controllers are not obeyed."""
BUDGET_FILE = "memory-budget"
"""A file of this name holds the host's memory budget in bytes, if it was changed in the run."""
OBJECTIVE_FILE = "objective"
"""A file of this name holds the run's objective, if it was changed in the run."""
SWITCH_FILES = (OFF_FILE, BUDGET_FILE, OBJECTIVE_FILE)
"""What people and schedules write beside the sockets of a run, and every host gets."""
_OWN = "default"
HEARTBEAT_TIMEOUT_S = 30.0
LOOK_EVERY_STEPS = 16
_NO_CHANGE = Change()


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
        limit, num_remote = self.limit_rows, self._workload.num_remote
        if rows <= max(min(limit, num_remote), current_rows):
            return None
        if num_remote < limit:
            return (
                f"capacity_rows = {rows} is more than the {num_remote} remote nodes of this"
                f" trainer; allowed: 0 to {num_remote}"
            )
        what = "memory" if limit == self._workload.max_buffer_rows else "memory budget"
        return (
            f"capacity_rows = {rows} is more than this trainer's share of the host's {what};"
            f" allowed: 0 to {limit}"
        )


@dataclass(frozen=True)
class HostSetting:
    """What one of the SWITCH_FILES says, and who wrote it; value None: the run's own holds."""

    value: str | None = None
    by: Literal["user", "schedule"] = "user"

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read the file's text; None: there is no file."""
        words = (text or "").split()
        value = words[0] if words and words[0] != _OWN else None
        return cls(value, "schedule" if words[1:] == ["schedule"] else "user")

    @classmethod
    def of(cls, file: Path | None) -> Self:
        """Read the file; one that cannot be read says nothing."""
        try:
            return cls.parse(None if file is None else file.read_text())
        except (OSError, ValueError):
            return cls()

    def __str__(self) -> str:
        value = self.value or _OWN
        return f"{value}\n" if self.by == "user" else f"{value} {self.by}\n"


def read_budget(file: Path | None, otherwise: int | None) -> int | None:
    """The budget in bytes that the file holds; `otherwise` where it holds no valid one."""
    try:
        budget = int(HostSetting.of(file).value or "")
    except ValueError:
        return otherwise
    return budget if budget >= 0 else otherwise


def read_objective(file: Path, otherwise: Objective) -> Objective:
    """The objective that the file holds; `otherwise` where it holds none."""
    value = HostSetting.of(file).value
    return next((each for each in OBJECTIVES if each == value), otherwise)


class NoCommandHandler:
    """In place of steering where there is no control port."""

    def tell_of_resume(self, step: int) -> None:
        """Do nothing."""

    def attend(self, step: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class CommandHandler:
    """Obeys commands that come at the control port, as long as their sender may steer."""

    def __init__(
        self,
        port: ControlPort,
        policy: Policy,
        *,
        rank: int,
        quota: MemoryQuota,
        off_file: Path,
        hot_set: Path | None = None,
        heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
    ) -> None:
        """The settings in force now are those to fall back on.

        quota: the most rows that anybody may set; off_file: while it exists, and when a
        controller that was heard has been silent for `heartbeat_timeout_s`, steering is off;
        hot_set: where its ids are, for fetch targets that name none.
        """
        self._port = port
        self._policy = policy
        self._rank = rank
        self._quota = quota
        self._off_file, self._hot_set = off_file, hot_set
        self._timeout_s = heartbeat_timeout_s
        self._defaults = policy.settings
        self._why_off: str | None = None
        self._is_switched_off = False
        self._next_look = 0

    def attend(self, step: int) -> None:
        """Take a command, look at the switch and the budget; step: the next batch to be planned."""
        command = self._port.take()
        if command is not None or step >= self._next_look:
            self._next_look = step + LOOK_EVERY_STEPS
            self._look(step)
        if command is not None:
            self._obey(command, step)

    def tell_of_resume(self, step: int) -> None:
        """Have it recorded that the run goes on at this step, under the settings now in force."""
        self._report("resume", step, applied=self._applied(uuid.uuid4().hex, step))

    def close(self) -> None:
        """Close the control port."""
        self._port.close()

    def _look(self, step: int) -> None:
        self._quota.refresh()
        why = self._why_it_is_off()
        if why == self._why_off:
            return
        if self._off_file.exists() != self._is_switched_off:
            self._is_switched_off = not self._is_switched_off
            tool: Tool = "steer_off" if self._is_switched_off else "steer_on"
            self._report(tool, step)
        if self._why_off is None:
            self._fall_back(step, str(why))
            complain(f"rudder: rank {self._rank} is back at its defaults: {why}")
        self._why_off = why
        self._tell(step)

    def _why_it_is_off(self) -> str | None:
        if self._off_file.exists():
            return "steering is switched off (`rudder steer on` turns it on)"
        heard = self._port.last_heartbeat
        if heard is not None and time.monotonic() - heard > self._timeout_s:
            return f"no controller was heard for {self._timeout_s:g} s"
        return None

    def _fall_back(self, step: int, why: str) -> None:
        """Go back to the defaults, with no more rows than the memory budget allows."""
        rows = min(self._defaults.capacity_rows, self._quota.limit_rows)
        wanted = self._defaults.model_copy(update={"capacity_rows": rows})
        change = Change.between(self._policy.settings, wanted)
        if not change.is_empty and self._policy.refusal(change) is None:
            self._policy.apply(change)
            applied = self._applied(uuid.uuid4().hex, step).model_copy(update={"reason": why})
            self._report("fall_back", step, change=change, applied=applied)

    def _obey(self, command: Command, step: int) -> None:
        change = self._with_ids(command.change)
        reason = command.objection or self._refusal(change, origin=command.origin)
        if reason is None and not change.is_empty:
            self._policy.apply(change)
        applied = self._applied(command.command_id, step, reason)
        self._port.answer(applied)
        if command.change.is_empty:
            return
        is_user = command.origin != "controller"
        if is_user or reason is None:
            tool: Tool = "set_buffer" if is_user else "apply_change"
            self._report(tool, step, change=command.change, applied=applied, origin=command.origin)
        if is_user and reason is None:
            self._keep(command.change, step)

    def _keep(self, change: Change, step: int) -> None:
        """Settings that a user sets are defaults from now on."""
        defaults = change.over(self._defaults)
        if defaults != self._defaults:
            self._defaults = defaults
            self._tell(step)

    def _with_ids(self, change: Change) -> Change:
        """The change with the ids of the hot set; the record need not hold them again."""
        targets = change.fetch_targets
        if targets is None or targets.source != "hot_set" or targets.ids or self._hot_set is None:
            return change
        hot = HotSet.load(self._hot_set) or NO_HOT_SET
        ids = tuple(hot.nodes[:MAX_HOT_ROWS].tolist())
        return change.model_copy(update={"fetch_targets": targets.model_copy(update={"ids": ids})})

    def _refusal(self, change: Change, *, origin: Origin) -> str | None:
        """Why a change is not made, or None; the only check of a change in this process."""
        rows = change.capacity_rows
        if change.is_empty:
            return None
        if origin == "controller" and self._why_off is not None:
            return self._why_off
        if rows is not None:
            now = self._policy.settings.capacity_rows
            if (reason := self._quota.refusal(rows, current_rows=now)) is not None:
                return reason
        return self._policy.refusal(change)

    def _applied(self, command_id: str, step: int, reason: str | None = None) -> Applied:
        return Applied(
            command_id=command_id,
            outcome="refused" if reason else "applied",
            rank=self._rank,
            step=step,
            settings=self._policy.settings,
            reason=reason,
        )

    def _report(
        self,
        tool: Tool,
        step: int,
        *,
        change: Change = _NO_CHANGE,
        applied: Applied | None = None,
        origin: Origin = "user",
    ) -> None:
        """Have the controller record what it did not do itself."""
        name = applied.command_id if applied else uuid.uuid4().hex
        change = _without_ids(change)
        self._port.tell(
            Intervention(
                intervention_id=name,
                tool=tool,
                step=step,
                change=change,
                applied=applied,
                origin=origin,
            )
        )

    def _tell(self, step: int) -> None:
        self._port.tell(
            SteeringState(
                is_on=self._why_off is None,
                rank=self._rank,
                step=step,
                settings=self._policy.settings,
                defaults=self._defaults,
                reason=self._why_off,
            )
        )


def _without_ids(change: Change) -> Change:
    """The change without the ids of fetch targets, which may be 100,000."""
    if change.fetch_targets is None:
        return change
    targets = change.fetch_targets.model_copy(update={"ids": ()})
    return change.model_copy(update={"fetch_targets": targets})
