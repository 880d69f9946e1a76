"""A run whose memory budget leaves no buffer says so before it starts."""

from __future__ import annotations

import pytest

from rudder.cli.commands.train import tell_of_budget
from rudder.training.config import run_config


@pytest.mark.parametrize(
    ("budget", "controller", "is_told"),
    [("1599", "on", True), ("1600", "on", False), ("1599", "none", False), (None, "on", False)],
)
def test_only_a_steered_run_with_too_small_a_budget_is_told(
    capfd: pytest.CaptureFixture[str], budget: str | None, controller: str, is_told: bool
) -> None:
    config = run_config(
        memory_budget=budget, controller=controller, trainers_per_host=4, memory="none"
    )
    tell_of_budget(config, row_bytes=400)
    assert ("give 1600 bytes or more" in capfd.readouterr().err) == is_told
