"""Something that is looked at again and again while other work goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeating(look: Callable[[], object], *, every_s: float, name: str) -> Iterator[None]:
    """Call `look` in a thread every so many seconds within the block, the first time after one.

    name: of the thread. A call that runs at the block's end is waited for. An error that `look`
    raises ends the calls.
    """
    is_over = threading.Event()

    def run() -> None:
        while not is_over.wait(every_s):
            look()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
