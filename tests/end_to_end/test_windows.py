"""A script of one's own: its windows add up, and the switch is obeyed, on real DistDGL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.jobs import SCRIPTS, run_script

pytestmark = pytest.mark.distributed


def test_a_script_has_windows_that_add_up_and_a_switch_that_works(
    tiny_parts: Path, tmp_path: Path
) -> None:
    outputs = run_script(
        SCRIPTS / "windows.py", "--scratch", str(tmp_path), data=tiny_parts, scratch=tmp_path
    )
    lines = [line for output in outputs for line in output.splitlines() if line.startswith("{")]
    results = [json.loads(line) for line in lines]
    assert len(results) == 2
    assert len({result["workload"]["run_key"] for result in results}) == 1
    for rank, result in enumerate(results):
        workload, num_windows = result["workload"], result["told"]
        assert (workload["rank"], workload["world_size"]) == (rank, 2)
        assert result["steps"] == 3 * workload["batches_per_epoch"]
        assert num_windows == result["steps"] // 16
        assert result["first_steps"] == list(range(0, 16 * num_windows, 16))
        assert result["adds_up"]
        assert 0 < result["remote_rows"] <= result["all_remote_rows"]
        assert result["owners"] == [1 - rank]
        assert result["pulled"] == result["fetched"]
        assert result["num_with_accesses"] >= num_windows - 1
        assert result["are_shown"]
        assert result["peers"] > 0
        assert all(compute >= 10 for compute in result["compute_ms"])
        assert result["wall_seconds"] <= result["loop_seconds_without_pauses"]
        assert all(a <= b for a, b in zip(result["compute_ms"], result["step_ms"], strict=True))
        assert len(result["off_at"]) == 1
        assert 0 <= result["off_at"][0] - result["switched_at"] <= 16 + 16 + 8
        assert result["capacities"][-1] == workload["defaults"]["capacity_rows"]
