"""Processes of a test that are the ranks of one process group."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from tests.waiting import RUN_SECONDS


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


def outputs_of_ranks(module: str, *arguments: str | Path, size: int) -> list[str]:
    """What each `python -m MODULE RANK ARGUMENTS` printed; all end well, none is left behind."""
    command = [sys.executable, "-m", module]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [*command, str(rank), *arguments], stdout=subprocess.PIPE, text=True, env=environment
        )
        for rank in range(size)
    ]
    try:
        outputs = [rank.communicate(timeout=RUN_SECONDS)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert [rank.returncode for rank in ranks] == [0] * size, outputs
    return outputs
