"""One memory of simulated runs for all tests of learning."""

from __future__ import annotations

from pathlib import Path

import pytest

from rudder.bench.simulated.rehearsal import rehearse


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rehearse(tmp_path_factory.mktemp("collected"), runs=12, windows=40)
