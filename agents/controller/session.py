"""A controller's work on one run: the steering, the record, the switch and the budget."""

from __future__ import annotations

import json
import traceback
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from rudder.agents.actuator import Actuator, NoAnswerError, Sender, UnrecordedError
from rudder.agents.controller.report import (
    ENDED,
    RESTING,
    RUN_ENDED,
    SteeringReport,
    counted,
    is_change,
    read_report,
    write_report,
)
from rudder.agents.steering import Steering
from rudder.agents.turns import TurnStore
from rudder.memory.journal import AuditEntry
from rudder.memory.records import Episode, Outcome
from rudder.memory.run.record_place import RecordPlace
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.tools.cpu_budget import ALONE, CpuBudget, ProcessShare
from rudder.tools.estimate.means import waits
from rudder.tools.limits import Limits
from rudder.tools.memory_watch import MemoryWatch
from rudder.training.buffer.hot_set import hot_set_beside
from rudder.training.control.messages import (
    FULL_ATTENTION,
    Attention,
    Intervention,
    LogHead,
    SteeringState,
)
from rudder.training.control.steering import (
    BUDGET_FILE,
    OBJECTIVE_FILE,
    HostSetting,
    read_budget,
    read_objective,
)
from rudder.training.errors import RudderError, complain
from rudder.training.metrics import SteeringCounts, Window
from rudder.training.settings import Change
from rudder.training.steering_options import SteeringOptions
from rudder.training.workload import Workload


async def recover(journal: SqliteJournal, sender: Sender, *, actuator: Actuator) -> Episode | None:
    """Undo the change that the previous controller left on trial, if it is still in force.

    The trainer is asked what is in force, so that nothing is sent twice. Returns the episode that
    was closed, or None. Raises RunError where the trainer does not answer.
    """
    episode = journal.unfinished()
    if episode is None:
        return None
    now = (await sender.send(Change(), issued_at_step=None)).settings
    before = episode.observation.settings
    change = episode.verdict.change if episode.verdict else episode.plan.change
    if now != change.over(before):
        return _close(journal, episode, "the controller was restarted: other settings are in force")
    undo = Change.between(now, before)
    if not undo.is_empty:
        await actuator.carry_out(
            undo,
            observation=episode.observation,
            episode_id=episode.episode_id,
            purpose="revert_change",
        )
    return _close(journal, episode, "the controller was restarted during the trial: undone")


def _close(journal: SqliteJournal, episode: Episode, reason: str) -> Episode:
    closed = episode.model_copy(update={"outcome": Outcome(result="abandoned", reason=reason)})
    journal.save(closed)
    return closed


class TrainerPort(Sender, TurnStore, Protocol):
    """What a controller says to a trainer."""

    async def attend(self, attention: Attention) -> None:
        """Tell it what its windows are to show."""


class ControllerSession:
    """Steers one trainer, once `begin` has undone what an earlier controller left on trial."""

    def __init__(
        self,
        workload: Workload,
        *,
        sender: TrainerPort,
        options: SteeringOptions,
        folder: Path,
        socket: Path,
        process: ProcessShare = ALONE,
        memory: MemoryWatch | None = None,
    ) -> None:
        """process: what this trainer has of the controller's process; memory: looks at the host's
        memory."""
        self._workload, self._options, self._folder = workload, options, folder
        self._budget_file, self._socket = socket.parent / BUDGET_FILE, socket
        self._objective_file = socket.parent / OBJECTIVE_FILE
        self._budget_bytes = options.memory_budget_bytes
        self._memory = memory or MemoryWatch()
        self._is_on = True
        self._process, self._cpu = process, process.budget or CpuBudget()
        self._place = RecordPlace(folder, rank=workload.rank)
        self._journal = SqliteJournal.open(self._place.path, memory=options.memory)
        self._journal.begin(workload)
        self._steering = Steering(
            workload,
            sender=sender,
            journal=self._journal,
            options=options,
            may_decide=lambda: self._cpu.has_left,
            turns=sender,
        )
        before = read_report(folder, workload.rank)  # of a controller before this one
        self._report = SteeringReport(
            rank=workload.rank,
            planner=self._steering.team.planner.name,
            counts=SteeringCounts(rank=workload.rank) if before is None else before.counts,
            changes=() if before is None else before.changes,
        )
        self._sender, self._attention, self._has_begun = sender, FULL_ATTENTION, False

    async def begin(self) -> None:
        """Make the first decisions; raises what prevents them, once that is in the record."""
        try:
            await self._begin()
        except Exception as error:
            self.fail(error)
            self._journal.close()
            raise
        self._cpu.begin()
        await self._attend()

    async def take(self, window: Window) -> None:
        """A window to decide on; the trainer is told what to show from then on."""
        await self._decide_on(window)
        await self._attend()

    async def _attend(self) -> None:
        """Tell the trainer what its windows are to show, and others what changed for them."""
        wanted, told = self._steering.attention, self._report
        if wanted != self._attention:
            self._attention = wanted
            await self._sender.attend(wanted)
        if (self._phase, self._is_recording) != (told.phase, told.journal_is_writing):
            self._tell()

    async def _decide_on(self, window: Window) -> None:
        self._look_at_budget()
        self._look_at_objective()
        self._look_at_memory()
        self._place.copy_now_and_then()
        self._cpu.earn(window.trained_seconds, is_needed=waits(window))
        self._steering.note(window)
        if not self._is_on or not self._journal.resume():
            return  # what cannot be recorded is not done
        if not self._has_begun:
            await self._begin()
        if self._steering.is_beyond_limits:
            self._abandon("a limit must be kept to")
        forced = await self._steering.keep_to_limits()
        if forced is not None:  # the next window is the first under the limit
            self._count_at_once(forced)
            return
        for episode in await self._steering.decide_on(window):
            self._count(episode)

    def note(self, window: Window) -> None:
        """A window that nothing is decided on."""
        self._place.copy_now_and_then()
        self._cpu.earn(window.trained_seconds, is_needed=waits(window))
        self._steering.note(window)

    def switch(self, state: SteeringState) -> None:
        """The trainer tells whether it can be steered; what was on trial is given up if not."""
        if self._is_on and not state.is_on:
            self._abandon("steering was switched off")
        self._is_on = state.is_on
        self._tell()

    def record(self, done: Intervention) -> None:
        """What was done without a controller is in the log, once, however often it is told."""
        if self._journal.has_logged(done.intervention_id):
            return
        applied = done.applied
        self._journal.log(
            AuditEntry(
                kind="note",
                call_id=done.intervention_id,
                agent=done.agent,
                tool=done.tool,
                step=done.step,
                arguments=done.change.model_dump_json(exclude_defaults=True),
                result=applied.model_dump_json() if applied else None,
                outcome=applied.outcome if applied else None,
            )
        )

    def log_head(self) -> LogHead | None:
        """Where the log ends, for another rank to keep; None where that cannot be read."""
        return self._journal.head()

    def note_head(self, head: LogHead) -> None:
        """Where the log of another rank ended."""
        self._journal.note_head(head)

    def fail(self, error: Exception) -> None:
        """A decision failed: the record has why, and where in the code, and the next one is made.

        A change that could not be recorded stays on trial until it can.
        """
        where = "".join(traceback.format_exception(error))
        is_foreseen = isinstance(error, RudderError)
        complain(f"rudder: a decision failed: {error}" if is_foreseen else where)
        told = {"message": str(error)} if is_foreseen else {"traceback": where}
        self._note(
            "act",
            "decide",
            outcome="failed",
            error_type=type(error).__name__,
            result=json.dumps(told),
        )
        if not isinstance(error, UnrecordedError):
            self._abandon(_reason(error))

    async def close(self) -> None:
        """The run is over. A decision that was cut off after it was recorded counts, too."""
        last, told = self._steering.last, self._report.last
        if last is not None and (told is None or last.number > told.number):
            self._count(last)
        self._abandon(RUN_ENDED)
        if (asker := self._steering.team.asker) is not None:
            await asker.close()
        self._tell(ENDED)
        self._journal.close()
        await self._place.close()

    # -- how -------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Undo what an earlier controller left on trial, and start from the settings that an
        earlier run came to. Does nothing while nothing can be recorded. Raises as `recover`."""
        self._tell()
        if not self._journal.resume():
            return
        closed = await recover(self._journal, self._sender, actuator=self._steering.actuator)
        self._has_begun = True
        self._steering.number_from(self._journal.next_number())
        if closed is not None and is_change(closed):
            counts = counted(self._report.counts, closed)
            update = {"counts": counts, "changes": self._report.changes_with(closed)}
            self._report = self._report.model_copy(update=update)
            self._tell()
        self._lay_out_hot_set()
        try:
            if (episode := await self._steering.begin()) is not None:
                self._count_at_once(episode)
        except Exception as error:
            self.fail(error)

    def _lay_out_hot_set(self) -> None:
        """Put the hot set of an earlier run where the trainer looks for it."""
        hot = self._journal.hot_set()
        if hot is not None:
            with suppress(OSError):
                hot.save(hot_set_beside(self._socket))
                self._steering.toolbox.hot_rows = len(hot.nodes)

    def _look_at_budget(self) -> None:
        """A budget that has changed holds from the next decision on."""
        budget = read_budget(self._budget_file, self._options.memory_budget_bytes)
        if budget != self._budget_bytes:
            who = HostSetting.of(self._budget_file).by
            self._note(who, "steer_budget", arguments=json.dumps({"num_bytes": budget}))
            self._budget_bytes = budget
            self._memory.forget()
            self._set_budget(budget)

    def _look_at_objective(self) -> None:
        """So does an objective."""
        objective = read_objective(self._objective_file, self._options.objective)
        if self._steering.seek(objective):
            who = HostSetting.of(self._objective_file).by
            self._note(who, "steer_objective", arguments=json.dumps({"objective": objective}))

    def _look_at_memory(self) -> None:
        """While the host runs short of memory its budget is cut."""
        latest, work, memory = self._steering.toolbox.history.latest, self._workload, self._memory
        if latest is None:
            return
        before = memory.budget_bytes
        held = latest.buffered_rows * work.row_bytes * max(work.trainers_on_host, 1)
        memory.refresh(held_bytes=held)
        if memory.budget_bytes == before:
            return
        cut, budget = memory.budget_bytes, self._budget_bytes
        told = {"num_bytes": cut, "reason": memory.reason}
        self._note("act", "memory_pressure", arguments=json.dumps(told))
        known = [each for each in (cut, budget) if each is not None]
        self._set_budget(min(known, default=None))
        self._tell()

    def _set_budget(self, budget: int | None) -> None:
        reason = self._memory.reason
        limits = Limits.of(self._workload, memory_budget_bytes=budget, budget_reason=reason)
        self._steering.toolbox.set_limits(limits)
        self._steering.wake()

    def _note(self, agent: str, tool: str, **values: object) -> None:
        at = {"call_id": uuid.uuid4().hex, "step": self._steering.toolbox.history.next_step}
        row = {"kind": "note", "agent": agent, "tool": tool, **at, **values}
        self._journal.log(AuditEntry.model_validate(row))

    def _abandon(self, reason: str) -> None:
        """End the trial that is under way, if there is one; its change stays."""
        if (episode := self._steering.abandon(reason)) is not None:
            self._count(episode)

    def _count_at_once(self, episode: Episode) -> None:
        """Count a decision; if it is a change whose outcome is known already, count that, too."""
        if is_change(episode) and episode.outcome is not None:
            self._count(episode.model_copy(update={"outcome": None}))
        self._count(episode)

    def _count(self, episode: Episode) -> None:
        counts = counted(self._report.counts, episode)
        update: dict[str, object] = {"counts": counts, "last": episode}
        if is_change(episode):
            update["changes"] = self._report.changes_with(episode)
        if not self._steering.is_on_trial and episode.applied is not None:
            update["confirmed"] = self._steering.toolbox.history.settings
        self._report = self._report.model_copy(update=update)
        self._tell()

    @property
    def _phase(self) -> str:
        if self._steering.is_on_trial:
            return "on trial"
        return "watching" if self._attention == FULL_ATTENTION else RESTING

    @property
    def _is_recording(self) -> bool:
        return self._journal.is_writing and not self._journal.has_gaps

    def _tell(self, phase: str | None = None) -> None:
        asker = self._steering.team.asker
        model = None if asker is None else asker.report()
        counts = self._report.counts.model_copy(update={"model": model})
        self._report = self._report.model_copy(
            update={
                "counts": counts,
                "phase": phase or self._phase,
                "is_on": self._is_on,
                "shortage": self._memory.reason,
                "journal_is_writing": self._is_recording,
                "cpu_seconds": self._process.cpu_seconds,
                "peak_rss_bytes": self._process.peak_rss_bytes,
            }
        )
        write_report(self._report, self._folder)


def _reason(error: Exception) -> str:
    """Why a trial was given up, without the error's own text, which may be of anywhere."""
    if isinstance(error, NoAnswerError):
        return "the trainer gave no answer"
    return f"a decision failed: {type(error).__name__}"
