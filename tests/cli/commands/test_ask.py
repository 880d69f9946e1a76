"""`rudder ask`: a scripted model looks things up in a real record, and its figures are checked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rudder.agents.llm.errors import InvalidAnswerError, ServerFailedError
from rudder.bench.model_server.scripted_server import (
    CallTool,
    ChatRequest,
    Fail,
    Say,
    ScriptedServer,
    Step,
)
from rudder.cli.main import make_app
from rudder.memory.run.run_reader import RunReader
from rudder.training.errors import ConfigError
from tests.agents.replay.made import FOLDER

METRICS = ("read_metrics", '{"rank": 0, "num_windows": 1}')
ALL = '{"rank": 0, "num_windows": 16}'


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run" / "steering").mkdir(parents=True)
    shutil.copy(FOLDER / "embedded.db", tmp_path / "run" / "steering" / "rank0.db")
    return tmp_path / "run"


@pytest.fixture
def capacity(run: Path) -> int:
    """Rows of the buffer in the last window."""
    with RunReader(run / "steering" / "rank0.db") as reader:
        return reader.windows()[-1].settings.capacity_rows


def answer(text: str) -> CallTool:
    return CallTool([("answer", json.dumps({"text": text}))])


def ask(run: Path, script: list[Step] | Callable[[ChatRequest], Step]) -> tuple[Any, list[str]]:
    """What is printed as JSON, and the questions that the model got."""
    with ScriptedServer(script) as server:
        done = rudder(
            "ask", run, "why is rank 0 slow?", "--llm", server.url, "--model", "m", "--json"
        )
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return json.loads(done.stdout), [request.text for request in server.requests]


def rudder(*arguments: object) -> Result:
    return CliRunner().invoke(make_app(["ask"]), [str(each) for each in arguments])


def test_an_answer_cites_what_was_looked_up(run: Path, capacity: int) -> None:
    before = (run / "steering" / "rank0.db").read_bytes()
    text = f"Rank 0 has a buffer of {capacity:,} rows [2]."
    found, asked = ask(
        run,
        [CallTool([("diagnose_run", "{}"), ("read_buffer_state", '{"rank": 0}')]), answer(text)],
    )
    assert found["answer"] == text
    assert found["unsupported"] == []
    assert found["cited"] == [2]
    assert [each["call"] for each in found["sources"]] == [
        "diagnose_run()", "read_buffer_state(rank 0)",
    ]  # fmt: skip
    assert "why is rank 0 slow?" in asked[0]
    assert f'"capacity_rows": {capacity}' in asked[1]
    assert str(run) not in "".join(asked)
    assert (run / "steering" / "rank0.db").read_bytes() == before


def test_a_figure_that_no_tool_returned_is_asked_for_again_and_then_marked(run: Path) -> None:
    invented = answer("Rank 0 waits 98765.4 ms [1].")
    found, asked = ask(run, [CallTool([METRICS]), invented])
    assert found["answer"] == "Rank 0 waits 98765.4 (?) ms [1]."
    assert found["unsupported"] == ["98765.4"]
    assert len(asked) == 3
    assert "no tool answer that their sentence cites: 98765.4" in asked[-1]


def test_a_second_answer_may_be_right(run: Path) -> None:
    right = answer("The tools do not tell.")
    found, _ = ask(run, [CallTool([METRICS]), answer("It waits 98765.4 ms [1]."), right])
    assert (found["answer"], found["unsupported"]) == ("The tools do not tell.", [])


def test_the_model_is_told_what_was_wrong_with_a_call(run: Path) -> None:
    calls = [
        ("read_metrics", "{}"),
        ("read_metrics", '{"rank": 7, "num_windows": 1}'),
        ("explain_decision", '{"episode": "ffffffff"}'),
        ("list_decisions", '{"last": 2}'),
    ]
    _, asked = ask(run, [CallTool(calls), answer("I looked.")])
    assert "rank: Input should be a valid integer" in asked[1]
    assert "rank = 7 is not allowed; allowed: 0" in asked[1]
    assert "there is no episode ffffffff" in asked[1]
    assert '"planner": "embedded"' in asked[1]


def test_a_damaged_record_is_told_of_without_its_path(run: Path) -> None:
    (run / "steering" / "rank0.db").write_bytes(b"no database" * 500)
    found, asked = ask(run, [CallTool([METRICS]), answer("The record cannot be read.")])
    assert '"error": "the run/steering/rank0.db' in asked[1]
    assert str(run) not in asked[1]
    assert found["answer"] == "The record cannot be read."


def test_an_endpoint_without_tools_answers_in_text(run: Path, capacity: int) -> None:
    def script(request: ChatRequest) -> Step:
        if request.tools or "response_format" in request.body:
            return Fail("400", text="tools and response_format are not supported")
        if "[1]" not in request.body["messages"][1]["content"]:
            return Say('{"name": "read_buffer_state", "arguments": {"rank": 0}}')
        return Say(json.dumps({"name": "answer", "arguments": {"text": f"{capacity} rows [1]."}}))

    found, asked = ask(run, script)
    assert found["answer"] == f"{capacity} rows [1]."
    assert "read_buffer_state(rank)" in asked[-1]


def test_a_model_that_only_looks_things_up_is_made_to_answer(run: Path) -> None:
    def script(request: ChatRequest) -> Step:
        return CallTool([METRICS]) if "read_metrics" in request.tools else answer("Enough.")

    found, asked = ask(run, script)
    assert found["answer"] == "Enough."
    assert len(asked) == 9


def test_a_long_answer_of_a_tool_is_cut_and_a_terminal_is_spared_what_it_would_obey(
    run: Path,
) -> None:
    script = [CallTool([("read_metrics", ALL)]), answer("Fine.\x1b[K\nSo be it.")]
    with ScriptedServer(script) as server:
        done = rudder("ask", run, "why?", "--llm", server.url, "--model", "m")
        assert "(cut here; ask for less)" in server.requests[1].text
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Fine.[K\nSo be it.\n\nLooked up:\n  [1] read_metrics(")


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        ("random", "The answer cites nothing that was looked up"),
        ("It is slow [7].", "The answer cites nothing that was looked up"),
        ("It waits 98765.4 ms [1].", "(?) marks figures"),
        ("It waits for rows [1].", None),
    ],
)
def test_an_answer_that_may_be_made_up_points_to_plain_rules(
    run: Path, text: str, doubt: str | None
) -> None:
    with ScriptedServer([CallTool([METRICS]), answer(text)]) as server:
        done = rudder("ask", run, "why?", "--llm", server.url, "--model", "m")
    assert done.exit_code == 0, done.output
    assert (f"rudder diagnose {run}" in done.stdout) == (doubt is not None)
    assert doubt is None or doubt in done.stdout


def test_an_endpoint_that_fails_or_says_nothing_usable_ends_in_an_error(run: Path) -> None:
    with pytest.raises(ServerFailedError, match=f"without a model: rudder diagnose {run}"):
        ask(run, [Fail("500")])
    with pytest.raises(InvalidAnswerError, match=r"too weak.*rudder diagnose"):
        ask(run, [Fail("prose")])


def test_without_a_model_plain_rules_answer(run: Path) -> None:
    done = rudder("ask", run, "why?")
    assert done.exit_code == 0, done.output
    assert "rudder diagnose" in done.stderr
    assert "bound by" in done.stdout
    half = rudder("ask", run, "why?", "--model", "m")
    assert isinstance(half.exception, ConfigError)
    assert "give both" in str(half.exception)
