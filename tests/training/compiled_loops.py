"""What a process compiled itself, with a cache of compiled loops at a place of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.waiting import RUN_SECONDS

_FIND_COMPILED = """
import sys
from numba.core.dispatcher import Dispatcher

modules = [module for name, module in sys.modules.items() if name.startswith("rudder.")]
loops = [value for module in modules for value in vars(module).values()]
loops = [loop for loop in loops if isinstance(loop, Dispatcher) and loop.signatures]
assert len(loops) >= {least}
print(*{{loop.__name__ for loop in loops if loop.stats.cache_misses}})
"""


def run_python(*arguments: str, cache: Path) -> str:
    """Standard output; cache: the folder of compiled loops."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=RUN_SECONDS,
    )  # fmt: skip
    return done.stdout


def compiled_by(code: str, *, least: int, cache: Path) -> list[str]:
    """Names of the loops that were not in the cache; least: so many loops must have been used."""
    return run_python("-c", code + _FIND_COMPILED.format(least=least), cache=cache).split()
