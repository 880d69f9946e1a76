"""Where a model is and with which key: what cannot be is told before anything starts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rudder.agents.llm.endpoint import NO_KEY, Endpoint
from rudder.agents.llm.messages import Question
from rudder.agents.llm.openai_chat import OpenAIChat
from rudder.agents.team import check_models
from rudder.bench.model_server.scripted_server import Say, ScriptedServer
from rudder.training.errors import ConfigError
from rudder.training.steering_options import SteeringOptions

URL = "http://127.0.0.1:8000/v1"


def endpoint(**environment: str) -> Endpoint:
    return Endpoint.of(URL, model="m", environment=environment)


def test_the_key_is_from_the_variable_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-the-file\n")
    both = endpoint(RUDDER_LLM_KEY="from-the-variable", RUDDER_LLM_KEY_FILE=str(file))
    assert both.key.get_secret_value() == "from-the-variable"
    assert both.key_from == "RUDDER_LLM_KEY"
    one = endpoint(RUDDER_LLM_KEY_FILE=str(file))
    assert one.key.get_secret_value() == "from-the-file"
    assert one.key_from == "RUDDER_LLM_KEY_FILE"
    assert "from-the" not in repr(one)


def test_the_key_of_another_service_is_not_taken() -> None:
    found = endpoint(OPENAI_API_KEY="not-yours")
    assert found.key.get_secret_value() == NO_KEY
    assert found.key_from is None


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff\xfe", "schlüssel".encode()])
def test_a_file_that_holds_no_key_is_told_without_its_content(
    content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="RUDDER_LLM_KEY_FILE") as error:
        endpoint(RUDDER_LLM_KEY_FILE=str(file))
    assert "lines" not in error.value.message.replace("line breaks", "")
    with pytest.raises(ConfigError, match="cannot be read"):
        endpoint(RUDDER_LLM_KEY_FILE=str(tmp_path / "none"))


@pytest.mark.parametrize("url", ["localhost:8000", "nonsense", "ftp://h/v1", "http://h:0/v1"])
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="llm"):
        Endpoint.of(url, model="m", environment={})


def test_a_run_is_refused_before_it_starts() -> None:
    check_models(None)
    check_models(SteeringOptions())
    check_models(SteeringOptions(llm_url=URL, llm_model="m"))
    with pytest.raises(ConfigError, match="a password"):
        check_models(SteeringOptions(llm_url="http://u:p@h/v1", llm_model="m"))
    with pytest.raises(ConfigError, match="no name") as error:
        check_models(SteeringOptions(llm_url=URL))
    assert "--llm-model" in error.value.remedy


@pytest.mark.parametrize(
    "extra", ["[1]", "nonsense", "[" * 100_000, '{"model": "other"}', '{"stream": true}']
)
def test_extra_fields_are_an_object_of_fields_that_are_not_ours(extra: str) -> None:
    check_models(SteeringOptions(llm_url=URL, llm_model="m", llm_extra='{"seed": 1}'))
    with pytest.raises(ConfigError, match="llm_extra"):
        check_models(SteeringOptions(llm_url=URL, llm_model="m", llm_extra=extra))


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "sig", "code"])
def test_a_key_in_the_query_of_an_address_is_refused(name: str) -> None:
    Endpoint.of(f"{URL}?api-version=1", model="m", environment={})
    with pytest.raises(ConfigError, match="a key") as error:
        Endpoint.of(f"{URL}?{name}=planted", model="m", environment={})
    assert "planted" not in str(error.value)


def test_azure_gets_its_key_by_its_own_name() -> None:
    with ScriptedServer([Say("{}")]) as server:
        told = {"RUDDER_LLM_KEY": "k"}
        found = Endpoint.of(f"{server.url}?api-version=1", model="m", environment=told)
        question = Question(role="probe", system="s", user="u", tools=(), schema_={})
        asyncio.run(OpenAIChat(found).complete(question, mode="text"))
    headers = server.requests[0].headers
    assert (headers["api-key"], "authorization" in headers) == ("k", False)
