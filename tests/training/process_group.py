"""Processes of a test that are the ranks of one process group."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import distributed


@contextlib.contextmanager
def process_group(rank: int, *, size: int, meeting: Path) -> Iterator[None]:
    """Be a rank of the group that meets at a file; all leave together.

    A group that is left to the interpreter's end may abort the process, and one that is simply
    destroyed may hang it: a thread of gloo still drops the last collective's Python objects then,
    which takes the interpreter's lock. To let go of the backend last does not hold that lock.
    """
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=size
    )
    try:
        yield
        distributed.barrier()
    finally:
        world: Any = distributed.group.WORLD
        gloo = world._get_backend(torch.device("cpu"))
        del world
        distributed.destroy_process_group()
        del gloo
