"""After the warm-up no controller waits for the compiler."""

from __future__ import annotations

from pathlib import Path

from tests.training.compiled_loops import compiled_by, run_python

_RUN = """
from rudder.bench.simulated import warm_up

warm_up.warm_up()
"""


def test_after_the_warm_up_another_controller_compiles_nothing(tmp_path: Path) -> None:
    assert run_python("-m", "rudder.bench.simulated.warm_up", cache=tmp_path) == ""
    assert compiled_by(_RUN, least=10, cache=tmp_path) == []
