"""After the warm-up no controller waits for the compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_RUN = """
import sys
from numba.core.dispatcher import Dispatcher
from rudder.bench.simulated import warm_up

warm_up.warm_up()
modules = [module for name, module in sys.modules.items() if name.startswith("rudder.")]
loops = [value for module in modules for value in vars(module).values()]
loops = [loop for loop in loops if isinstance(loop, Dispatcher) and loop.signatures]
assert len(loops) >= 10
print(*{loop.__name__ for loop in loops if loop.stats.cache_misses})
"""


def run(*arguments: str, cache: Path) -> str:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout


def test_after_the_warm_up_another_controller_compiles_nothing(tmp_path: Path) -> None:
    assert run("-m", "rudder.bench.simulated.warm_up", cache=tmp_path) == ""
    assert run("-c", _RUN, cache=tmp_path).split() == []
