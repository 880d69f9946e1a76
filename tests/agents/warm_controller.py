"""Controllers forked from a process that has imported all they need: they start in no time."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

from rudder.agents.controller import __main__ as controller

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__, "rudder.agents.controller.session"])
_LEAVE_S = 20.0


class WarmController:
    """Runs the controller's `main` with these arguments, again `pause_s` after each of its ends.

    As a ControllerProcess, without seconds of imports before each life.
    """

    def __init__(self, arguments: Sequence[str], *, pause_s: float) -> None:
        self._arguments, self._pause_s = tuple(arguments), pause_s
        self._process: BaseProcess | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Its process id; None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def close(self) -> None:
        """Let it end; its socket should be closed before."""
        self._ending.set()
        self._thread.join(_LEAVE_S)
        if (process := self._process) is not None:
            process.kill()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ending.is_set():
            process = _CONTEXT.Process(target=_control, args=self._arguments, daemon=True)
            process.start()
            self._process = process
            process.join()
            self._process = None
            self._ending.wait(self._pause_s)


def _control(*arguments: str) -> None:
    sys.argv = ["controller", *arguments]
    controller.main()
