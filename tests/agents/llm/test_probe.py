"""`rudder doctor --llm`: what an endpoint can do is found out, and shown."""

from __future__ import annotations

import io
import json

import pytest
import typer
from rich.console import Console

from rudder.agents.llm.endpoint import Endpoint
from rudder.bench.model_server.scripted_server import (
    CallTool,
    ChatRequest,
    Fail,
    Say,
    Send,
    Slow,
    Step,
    completion,
    with_calls,
    with_text,
)
from rudder.cli.commands.doctor import doctor_llm, llm_page
from rudder.cli.endpoint_probe import ProbeReport
from tests.agents.llm.conftest import Serve

ARGUMENTS = json.dumps({"reason": "fine"})


def knows_all(request: ChatRequest) -> Say | CallTool:
    if request.tools:
        return CallTool([("set", ARGUMENTS)])
    return Say(ARGUMENTS)


def knows_text(request: ChatRequest) -> Step:
    if request.tools:
        return Fail("500")
    return Fail("prose") if "response_format" in request.body else knows_all(request)


def report_of(text: str) -> ProbeReport:
    return ProbeReport.model_validate_json(text)


@pytest.mark.parametrize(
    ("script", "best", "errors"),
    [
        (knows_all, "tools", [None, None, None]),
        (knows_text, "text", ["ServerFailedError", "InvalidAnswerError.json", None]),
    ],
)
def test_the_first_mode_that_works_is_the_best(
    script: object,
    best: str,
    errors: list[str | None],
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = serve(script)  # type: ignore[arg-type]
    doctor_llm(server.url, model="m", deadline_s=5.0, json=True)
    report = report_of(capsys.readouterr().out)
    assert report.best == best
    assert [each.error for each in report.modes] == errors
    assert report.modes[-1].tokens_source == "server"
    assert report.warm_up_ms is not None
    assert report.warm_up_ms > 0


def test_an_endpoint_that_knows_no_mode_ends_with_exit_code_4(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve([Fail("401", text="the key sk-something is wrong")])
    with pytest.raises(typer.Exit) as caught:
        doctor_llm(server.url, model="m", deadline_s=5.0)
    assert caught.value.exit_code == 4
    shown = capsys.readouterr().out
    assert "RefusedError" in shown
    assert "the server says: the key *** is wrong" in shown
    assert "check the key: RUDDER_LLM_KEY" in " ".join(shown.split())
    assert "sk-something" not in shown


def test_the_doctor_tells_what_is_left_out_of_requests(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(request: ChatRequest) -> Step:
        if "temperature" in request.body:
            return Fail("400", text="'temperature' is not supported")
        return knows_all(request)

    doctor_llm(serve(script).url, model="m", deadline_s=5.0)
    shown = capsys.readouterr().out
    assert "requests are changed for this endpoint: no temperature" in shown
    assert "a run would use: tools" in shown


def test_a_model_that_loads_for_longer_than_an_answer_may_take_is_found_to_work(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    delays = [1.5]

    def script(request: ChatRequest) -> Step:
        return Slow(knows_all(request), delays.pop()) if delays else knows_all(request)

    doctor_llm(serve(script).url, model="m", deadline_s=0.5, warm_up_s=30.0, json=True)
    report = report_of(capsys.readouterr().out)
    assert report.best == "tools"
    assert report.warm_up_ms is not None
    assert report.warm_up_ms > 1500


def test_the_page_names_endpoint_modes_and_flags(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(knows_all)
    doctor_llm(server.url, model="m", deadline_s=5.0, json=True)
    out = io.StringIO()
    endpoint = Endpoint.of(server.url, model="m", environment={"RUDDER_LLM_KEY": "sk-secret"})
    Console(file=out, width=120).print(llm_page(report_of(capsys.readouterr().out), endpoint))
    for told in (server.url, "a run would use: tools", "--jinja", "--enable-auto-tool-choice",
                 "OLLAMA_CONTEXT_LENGTH", "2 of 2", "RUDDER_LLM_KEY"):  # fmt: skip
        assert told in out.getvalue()
    assert "sk-secret" not in out.getvalue()


@pytest.mark.parametrize(
    ("with_tools", "without", "told"),
    [(2000, 1500, None), (900, 1500, "leaves tools out"), (100, 100, "raise its context")],
)
def test_tokens_that_the_server_counts_tell_of_cut_prompts_and_of_tools_left_out(
    with_tools: int,
    without: int,
    told: str | None,
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def script(request: ChatRequest) -> Step:
        message = with_calls([("set", ARGUMENTS)]) if request.tools else with_text(ARGUMENTS)
        counted = with_tools if request.tools else without
        usage = {"prompt_tokens": counted, "completion_tokens": 9, "total_tokens": counted + 9}
        return Send(json.dumps({**completion(message), "usage": usage}).encode())

    doctor_llm(serve(script).url, model="m", deadline_s=5.0)
    shown = " ".join(capsys.readouterr().out.split())
    assert ("raise its context" in shown or "leaves tools out" in shown) == (told is not None)
    assert told is None or told in shown
