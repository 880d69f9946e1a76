"""The MCP server, asked by the SDK's own client: in this process, over pipes, and over HTTP."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import pytest

pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
from mcp import Client, StdioServerParameters, stdio_client

from rudder.cli.mcp_server import make_server
from rudder.memory.run.run_reader import RunReader
from rudder.tools.catalog import SPECS
from rudder.training.control import unix_socket
from rudder.training.control.door import DOOR_FILE, Door
from rudder.training.control.messages import Intervention, Subscribe, read_message, to_line
from rudder.training.hosts.host import reserve_ports
from tests.agents.replay.made import FOLDER
from tests.training.control.steered import Trainer
from tests.waiting import WAIT_SECONDS, until

RUN = {"run": "demo", "rank": 0}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with one small recorded run."""
    steering = tmp_path / "runs" / "demo" / "steering"
    steering.mkdir(parents=True)
    shutil.copy(FOLDER / "embedded.db", steering / "rank0.db")
    return tmp_path / "runs"


def ask(target: Any, *calls: tuple[str, dict[str, Any]]) -> tuple[list[str], list[Any]]:
    """The names of the tools, and what calls are answered: errors as text."""

    async def talk() -> tuple[list[str], list[Any]]:
        async with Client(target) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            answers = []
            for name, arguments in calls:
                result = await client.call_tool(name, arguments)
                text = result.content[0].text  # type: ignore[union-attr]  # of ours all are texts
                answers.append(text if result.is_error else json.loads(text))
            return names, answers

    return anyio.run(talk)


def test_a_client_lists_reads_and_explains(runs: Path) -> None:
    with RunReader(runs / "demo" / "steering" / "rank0.db") as reader:
        windows, episodes = reader.windows(), reader.episodes()
    names, answers = ask(
        make_server(runs, may_write=False),
        ("list_runs", {}),
        ("read_metrics", {**RUN, "arguments": {"num_windows": 2}}),
        ("list_decisions", {"run": "demo"}),
        ("explain_decision", {"run": "demo", "episode": episodes[0].episode_id}),
        ("diagnose_run", {"run": "demo"}),
        ("write_report", {"run": "demo"}),
    )
    assert {spec.name for spec in SPECS if spec.kind == "read"} < set(names)
    assert "change_buffer" not in names
    listed, metrics, decisions, story, diagnosis, page = answers
    assert [each["name"] for each in listed["record"]] == ["demo"]
    shown = [each["first_step"] for each in metrics["record"]["windows"]]
    assert shown == [each.first_step for each in windows[-2:]]
    assert [each["episode_id"] for each in decisions["record"]] == [
        each.episode_id for each in episodes[-20:]
    ]
    assert story["record"].startswith(f"Episode {episodes[0].episode_id}")
    assert diagnosis["record"][0]["rank"] == windows[0].rank
    assert Path(page["path"]).stat().st_size > 10_000


def test_what_cannot_be_done_is_told_with_what_to_do(runs: Path) -> None:
    (runs.parent / "secret").mkdir()
    _, answers = ask(
        make_server(runs, may_write=True),
        ("diagnose_run", {"run": "../secret"}),
        ("read_metrics", {**RUN, "arguments": {"num_windows": 99}}),
        ("estimate_effect", {"run": "demo", "rank": 7, "arguments": {}}),
        ("change_buffer", {**RUN, "reason": "none"}),
        ("change_buffer", {**RUN, "reason": "over", "capacity_rows": 10}),
    )
    assert "allowed: a name that list_runs has" in answers[0]
    assert "num_windows" in answers[1]
    assert "rank = 7 is not allowed; allowed: 0" in answers[2]
    assert "nothing is to be changed" in answers[3]
    assert "no trainer listens" in answers[4]


def test_a_change_is_reviewed_sent_and_recorded_as_of_mcp(runs: Path) -> None:
    shutil.copy(FOLDER / "llm.db", runs / "demo" / "steering" / "rank0.db")
    with Trainer(runs / "demo", rank=0, rows=1000) as trainer:
        _, (refused, made) = ask(
            make_server(runs, may_write=True),
            ("change_buffer", {**RUN, "reason": "less", "capacity_rows": 0}),
            ("change_buffer", {**RUN, "reason": "more", "capacity_rows": 500}),
        )
        assert trainer.settings.capacity_rows == 500
        told = list(islice(interventions(trainer.path), 2))
    assert "refused: the critic: the trainer would wait longer" in refused
    assert made["record"]["settings"]["capacity_rows"] == 500
    assert [(each.agent, each.tool) for each in told] == [("mcp", "set_buffer")] * 2
    outcomes = [each.applied.outcome for each in told if each.applied]
    assert outcomes == ["refused", "applied"]


def test_a_trainer_of_another_machine_is_reached_through_the_door(
    runs: Path, tmp_path: Path
) -> None:
    shutil.copy(FOLDER / "llm.db", runs / "demo" / "steering" / "rank0.db")
    there = tmp_path / "there"
    there.mkdir()
    control = there / "control"
    with (
        Trainer(there, rank=0, rows=1000) as trainer,
        Door(there, control=control, addresses=["127.0.0.1"], hosts=["node1"]),
    ):
        shutil.copy(there / DOOR_FILE, runs / "demo")
        asked = {"reason": "more", "capacity_rows": 500}
        _, (made,) = ask(make_server(runs, may_write=True), ("change_buffer", {**RUN, **asked}))
        assert trainer.settings.capacity_rows == 500
    assert made["record"]["outcome"] == "applied"


def interventions(path: Path) -> Iterator[Intervention]:
    """What a trainer tells a controller that connects."""
    with unix_socket.connect(path, timeout_s=10) as client, client.makefile("rb") as lines:
        client.sendall(to_line(Subscribe(subscribe="windows")))
        for line in lines:
            if isinstance(message := read_message(line), Intervention):
                yield message


def test_a_change_on_trial_keeps_others_from_being_made(runs: Path) -> None:
    with Trainer(runs / "demo", rank=0, rows=1000) as trainer:
        _, (refused,) = ask(
            make_server(runs, may_write=True),
            ("change_buffer", {**RUN, "reason": "more", "capacity_rows": 454}),
        )
        assert trainer.settings.capacity_rows == 1000
    assert "the guard (in_flight): an earlier change is still on trial" in refused


def test_it_is_served_over_pipes_and_over_http(runs: Path) -> None:
    command = ["-m", "rudder", "mcp", "--folder", str(runs)]
    over_pipes = StdioServerParameters(command=sys.executable, args=command)
    names, answers = ask(stdio_client(over_pipes), ("list_runs", {}))
    assert [each["name"] for each in answers[0]["record"]] == ["demo"]
    port = reserve_ports(1, addresses=["127.0.0.1"], first=None)
    server = subprocess.Popen([sys.executable, *command, "--http", str(port), "--write"])
    try:
        until(lambda: is_open(port))
        more, _ = ask(f"http://127.0.0.1:{port}/mcp")
    finally:
        server.terminate()
        server.wait(WAIT_SECONDS)
    assert set(more) - set(names) == {"change_buffer"}


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
