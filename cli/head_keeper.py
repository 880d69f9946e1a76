"""Writes down outside of a run's logs where they end, while the run goes on."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rudder.cli.show.progress import say
from rudder.memory.past.experience import Experience
from rudder.memory.run.heads import SIGNED_FILE, Anchor, current_heads, read_key
from rudder.memory.run.run_reader import RunReader, run_files
from rudder.training.config import RunConfig
from rudder.training.control.messages import LogHead
from rudder.training.errors import ConfigError, MachineError, RudderError
from rudder.training.repeating import repeating

_EVERY_S = 60.0
_PASSES_PER_MEMORY = 10
"""A memory is opened with every tenth pass: opening checks the whole file."""


class HeadKeeper:
    """Writes to the run's anchor, signed with its key, and to the memory."""

    def __init__(self, config: RunConfig, *, every_s: float = _EVERY_S) -> None:
        """Raises ConfigError for a key or an anchor that cannot be used."""
        steering, self._every_s = config.steering, every_s
        if steering is None and (config.audit_key or config.audit_anchor):
            raise ConfigError(
                "audit_key and audit_anchor are of the audit log, and without agents there is none",
                remedy="leave them out, or steer: --controller on --loader rudder",
            )
        self._memory = None if steering is None else steering.memory
        self._key = read_key(config.audit_key) if config.audit_key else None
        self._anchor = Anchor.parse(config.audit_anchor) if config.audit_anchor else None
        self._last: dict[Anchor, list[tuple[LogHead, ...]]] = {}
        self._failures: dict[Anchor, MachineError] = {}

    @contextmanager
    def watch(self, run_dir: Path) -> Iterator[None]:
        """Within, a thread writes every minute; at the end of it, all is written once more."""
        has_failed, passes = True, itertools.count()

        def write() -> None:
            self._write(run_dir)
            if next(passes) % _PASSES_PER_MEMORY == 0:
                self._fill_memory(run_dir)

        try:
            with repeating(write, every_s=self._every_s, name="rudder-heads"):
                yield
            has_failed = False
        finally:
            self._write(run_dir)
            if has_failed:  # others are merged into the memory
                self._fill_memory(run_dir)

    def check(self) -> None:
        """Raise MachineError if the last heads are not where they were to be written."""
        for failure in self._failures.values():
            raise failure

    def _write(self, run_dir: Path) -> None:
        signed = None if self._key is None else Anchor(str(run_dir / SIGNED_FILE))
        anchors = [each for each in (self._anchor, signed) if each is not None]
        lines = current_heads(run_dir) if anchors else []
        heads = [line.heads for line in lines]
        for anchor in anchors:
            if not heads or self._last.get(anchor) == heads:
                continue
            try:
                anchor.append([line.signed(self._key) for line in lines])
            except MachineError as error:
                if self._failures.get(anchor) is None:
                    say(str(error))
                self._failures[anchor] = error
            else:
                self._last[anchor] = heads
                self._failures.pop(anchor, None)

    def _fill_memory(self, run_dir: Path) -> None:
        """Without a word where that fails: the end of the run tells."""
        if self._memory is None:
            return
        with (
            suppress(RudderError, OSError, sqlite3.Error),
            Experience(self._memory) as experience,
        ):
            for path in run_files(run_dir):
                with suppress(RudderError), RunReader(path) as reader:
                    experience.keep_head(reader)
