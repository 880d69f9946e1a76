"""A real run that also hears a language model behind a real HTTP server, and its replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rudder.bench.model_server.scripted_server import (
    CallTool,
    ChatRequest,
    Fail,
    Say,
    ScriptedServer,
    Slow,
    Step,
)
from rudder.memory.run.run_reader import RunReader, run_files
from tests.end_to_end.test_train import rudder

pytestmark = pytest.mark.distributed
DELAY_S = 2.0
GROWN = {"reason": "a larger buffer holds more of what comes back", "capacity_rows": 1000}


def test_a_slow_model_outside_the_hosts_networks_advises_one_rank_and_nobody_waits_for_it(
    tiny_parts: Path, tmp_path: Path
) -> None:
    faults: list[Step] = [Fail("500")]

    def script(request: ChatRequest) -> Step:
        if not request.tools and "response_format" not in request.body:
            return Say("ready")
        return faults.pop() if faults else Slow(CallTool([("set", json.dumps(GROWN))]), DELAY_S)

    with ScriptedServer(script) as server:
        done = rudder(
            "train", "--data", str(tiny_parts), "--run-dir", str(tmp_path / "run"), "--json",
            "--llm", server.url, "--llm-model", "scripted", "--memory", "none",
            "--rate", "10mbit", "--buffer", "0.25", "--lookahead", "16",
            "--batch-size", "64", "--epochs", "16",
            cwd=tmp_path,
        )  # fmt: skip
        requests = list(server.requests)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    uses = [counts["model"] for counts in summary["steering"]]
    assert [use["questions"] > 0 for use in uses] == [True] + [False] * (len(uses) - 1)
    assert "Say that you are ready" in requests[0].text
    assert uses[0]["calls"] == len(requests) - 1 >= 2
    assert uses[0]["valid_first"] >= 1
    assert str(tmp_path) not in "".join(request.text for request in requests)
    assert before_the_model(tmp_path / "run")
    replayed = rudder("replay", "--run", str(tmp_path / "run"), "--json", cwd=tmp_path)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def before_the_model(run: Path) -> bool:
    """Whether others made the decision in which rank 0 first asked, if it asked in one."""
    with RunReader(run_files(run)[0]) as reader:
        first = reader.model_calls()[0]
        episodes = list(reader.episodes())
    asked_in = {e.plan.planner for e in episodes if e.episode_id == first.episode_id}
    return len(episodes) > 0 and asked_in <= {"embedded", "team"}
