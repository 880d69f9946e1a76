"""What a loader holds beside memory ends with the loader, however the script leaves it."""

from __future__ import annotations

import atexit
import threading
import weakref

from rudder.training.control.endpoint import ControlEndpoint
from rudder.training.loading.loader_thread import LoaderThread
from rudder.training.trace import TraceWriter


class LoaderResources:
    """A loader's thread, its control endpoint, and the trace that it writes.

    They are closed by `close`, when the loader is no longer used, or when Python exits: then
    before DGL leaves the job, because the thread uses DGL's connections.
    """

    def __init__(
        self,
        owner: object,
        thread: LoaderThread,
        endpoint: ControlEndpoint,
        trace: TraceWriter | None,
    ) -> None:
        """owner: the loader; nothing here refers to it."""
        self._thread, self._endpoint, self._trace = thread, endpoint, trace
        finalizer = weakref.finalize(owner, thread.stop_soon, self._close_rest)
        finalizer.atexit = False  # Python's own exit handler may come after DGL's
        self._is_closing = threading.RLock()  # it may be collected while it is closed
        atexit.register(self.close)

    def close(self) -> None:
        """Close all and wait for the thread's end. Again, it does nothing."""
        self._thread.stop()
        self._close_rest()

    def _close_rest(self) -> None:
        with self._is_closing:
            self._endpoint.close()
            trace, self._trace = self._trace, None
            if trace is not None:
                trace.close()
            atexit.unregister(self.close)
