"""A real run whose planner is a language model behind a real HTTP server, and its replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rudder.bench.model_server.scripted_server import (
    CallTool,
    ChatRequest,
    Fail,
    ScriptedServer,
    Step,
)
from tests.end_to_end.test_train import rudder

pytestmark = pytest.mark.distributed
EXPECTED = {
    "expected_rows_low": 10,
    "expected_rows_high": 400,
    "expected_wait_ms_low": 0,
    "expected_wait_ms_high": 50,
    "reason": "a larger buffer holds more of what comes back",
}


def test_a_model_outside_the_hosts_networks_plans_and_its_decisions_replay(
    tiny_parts: Path, tmp_path: Path
) -> None:
    answers: list[Step] = [Fail("500"), CallTool([("set_buffer_capacity", grown(1000))])]

    def script(request: ChatRequest) -> Step:
        return answers.pop(0) if answers else CallTool([("keep_current", json.dumps(EXPECTED))])

    with ScriptedServer(script) as server:
        done = rudder(
            "train", "--data", str(tiny_parts), "--run-dir", str(tmp_path / "run"), "--json",
            "--llm", server.url, "--llm-model", "scripted", "--memory", "none",
            "--rate", "10mbit", "--buffer", "0.25", "--lookahead", "16",
            "--batch-size", "64", "--epochs", "12",
            cwd=tmp_path,
        )  # fmt: skip
        requests = list(server.requests)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    uses = [counts["model"] for counts in summary["steering"]]
    assert sum(use["calls"] for use in uses) == len(requests) >= 2  # each rank asks, as it waits
    assert sum(use["valid_first"] for use in uses) >= 1
    assert str(tmp_path) not in "".join(request.text for request in requests)
    replayed = rudder("replay", "--run", str(tmp_path / "run"), "--json", cwd=tmp_path)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def grown(rows: int) -> str:
    return json.dumps(EXPECTED | {"capacity_rows": rows})
