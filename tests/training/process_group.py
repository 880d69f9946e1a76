"""Processes of a test that are the ranks of one process group."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from torch import distributed


@contextlib.contextmanager
def process_group(rank: int, *, size: int, meeting: Path) -> Iterator[None]:
    """Be a rank of the group that meets at a file; all leave together.

    A group that is left to the interpreter's end may abort the process: a thread of gloo still
    drops the last collective's Python objects then.
    """
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=size
    )
    try:
        yield
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
