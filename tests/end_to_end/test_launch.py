"""Runs that go well, on both kinds of local hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.runs import Outcome, Run, segments
from tests.waiting import RUN_SECONDS

pytestmark = pytest.mark.distributed


def trained(outcome: Outcome, *, num_trainers: int) -> None:
    assert outcome.exit_code == 0, outcome.error
    reports = [event["report"] for event in outcome.events if event["kind"] == "report"]
    assert sorted(report["rank"] for report in reports) == list(range(num_trainers))


def test_two_runs_at_once_on_loopback_do_not_disturb_each_other(
    tiny_parts: Path, tmp_path: Path
) -> None:
    before = segments()
    runs = [
        Run(tiny_parts, tmp_path / name, network="loopback", epochs=2) for name in ("one", "other")
    ]
    for run in runs:
        trained(run.outcome(within_s=RUN_SECONDS), num_trainers=2)
        assert run.processes() == []
    assert segments() <= before


def test_hosts_with_several_servers_and_trainers_train(tiny_parts: Path, tmp_path: Path) -> None:
    """A torchrun has started the launcher; its store is not for the trainers."""
    run = Run(
        tiny_parts, tmp_path / "run", epochs=2, servers_per_host=2, trainers_per_host=2,
        variables={"TORCHELASTIC_USE_AGENT_STORE": "True", "RANK": "3", "WORLD_SIZE": "4"},
    )  # fmt: skip
    trained(run.outcome(within_s=RUN_SECONDS), num_trainers=4)
    logs = sorted(path.name for path in (tmp_path / "run" / "logs").iterdir())
    assert logs == sorted([f"{kind}{rank}.log" for kind in ("rank", "server") for rank in range(4)])
    assert not (tmp_path / "run" / "control").exists()
