"""A key goes to its endpoint and nowhere else; other secrets go nowhere at all."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import pytest

from rudder.agents.llm.asker import Asker
from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.exchange import Exchange
from rudder.bench.model_server.scripted_server import Fail, Fault, Say
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.errors import ConfigError
from tests.agents.llm.conftest import AskerAt, Serve, waiting

SECRETS = [f"sk-planted-{number:024x}" for number in range(0x5EC2E7, 0x5EC2E7 + 50)]
VARIABLES = (
    "OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET", "AZURE_OPENAI_API_KEY",
    "LANGSMITH_API_KEY", "LANGCHAIN_API_KEY", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY",
    "DATABASE_URL", "HF_TOKEN",
)  # fmt: skip
FAULTS: tuple[Fault, ...] = ("500", "401", "html", "429", "redirect")


async def plan_once(asker: Asker, observation: Observation, toolbox: Toolbox) -> Plan:
    plan = await waiting(asker).plan(observation, (), toolbox)
    await asker.close()
    return plan


def test_no_planted_secret_gets_into_logs_messages_or_records(
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
    exchanges: list[Exchange],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", "true")
    asked = []
    plans = []
    for start in range(0, len(SECRETS), len(VARIABLES)):
        planted = SECRETS[start : start + len(VARIABLES)]
        for name, secret in zip(VARIABLES, planted, strict=True):
            monkeypatch.setenv(name, secret)
        fault = FAULTS[start // len(VARIABLES)]
        # The server gives the key back in its error, as some do.
        server = serve([Fail(fault, text=f"bad key {planted[0]}"), Say("x")])
        asker = asker_at(server.url, key=planted[0])
        plans.append(asyncio.run(plan_once(asker, observation, toolbox)))
        for request in server.requests:
            assert request.headers["authorization"] == f"Bearer {planted[0]}"
            others = {name: v for name, v in request.headers.items() if name != "authorization"}
            asked.append(f"{others} {request.body}")
    kept = [each.model_dump_json() for each in [*exchanges, *plans]]
    stored = [each.to_model_call("1").model_dump_json() for each in exchanges]
    assert len(asked) >= 5
    assert caplog.text
    for secret in SECRETS:
        for text in [caplog.text, *asked, *kept, *stored]:
            assert secret not in text


def test_without_a_key_of_ours_no_other_key_is_sent(
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRETS[0])
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-somebody")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-somebody")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: of-somebody\nX-Team: of-somebody")
    monkeypatch.setenv("OPENAI_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("LANGSMITH_GATEWAY", "true")
    server = serve([Say("x")])
    asyncio.run(plan_once(asker_at(server.url), observation, toolbox))
    assert server.requests[0].headers["authorization"] == "Bearer not-needed"
    assert "of-somebody" not in str(server.requests[0].headers)
    told = {name for name in server.requests[0].headers if name.startswith("x-")}
    assert told <= {"x-stainless-raw-response"}


def test_an_endpoint_does_not_show_its_key() -> None:
    endpoint = Endpoint.of(
        "http://localhost:1/v1", model="m", environment={"RUDDER_LLM_KEY": SECRETS[0]}
    )
    assert endpoint.key.get_secret_value() == SECRETS[0]
    for text in (repr(endpoint), str(endpoint), endpoint.model_dump_json(), str(endpoint.key)):
        assert SECRETS[0] not in text


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://host/v1",
        "http://",
        f"http://user:{SECRETS[1]}@host/v1",
        f"http://host/v1?key={SECRETS[1]}",
        "http://host:99999/v1",
        "http://host:0/v1",
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint.of(url, model="m", environment={})
    assert caught.value.remedy
    assert SECRETS[1] not in str(caught.value)


def test_replays_and_roles_import_no_http_client() -> None:
    code = (
        "import sys, rudder.agents.team, rudder.agents.replay.cast;"
        "print([m for m in ('torch', 'dgl', 'openai', 'langchain_openai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
