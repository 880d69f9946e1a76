"""What is recorded of a failed question is true: our own faults are not the endpoint's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from rudder.agents.llm.asker import Asker
from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.errors import UnreachableError
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.messages import Question, Reply
from rudder.agents.llm.openai_chat import OpenAIChat
from rudder.bench.model_server.scripted_server import Fail, Say
from tests.agents.llm.conftest import AskerAt, Serve
from tests.agents.steered import observation_of

QUESTION = Question(role="probe", system="s", user="u", tools=(), schema_={})


def as_it_is(reply: Reply) -> Reply:
    return reply


def wrongly(reply: Reply) -> Reply:
    return [reply][1]


def ask(asker: Asker, *, read: Callable[[Reply], Reply] = as_it_is) -> None:
    async def run() -> None:
        await asker.ask(QUESTION, read, seen=observation_of(window=0, step=0))
        await asker.close()

    asyncio.run(run())


def test_a_fault_of_ours_in_making_a_request_keeps_its_traceback(
    serve: Serve, asker_at: AskerAt, exchanges: list[Exchange]
) -> None:
    url = serve([Say("x")]).url
    endpoint = Endpoint.of(url, model="m", environment={})
    broken = endpoint.model_copy(update={"extra": {"seed": object()}})
    asker = asker_at(url, chat=OpenAIChat(broken, mode="text"))
    with pytest.raises(TypeError):
        ask(asker)
    came = exchanges[0].came
    assert came.error == "TypeError"
    assert came.reason is not None
    assert "openai_chat.py" in came.reason
    assert asker.report().fallbacks == {}


def test_a_fault_of_ours_in_reading_an_answer_keeps_its_traceback(
    serve: Serve, asker_at: AskerAt, exchanges: list[Exchange]
) -> None:
    asker = asker_at(serve([Say("x")]).url, mode="text")
    with pytest.raises(IndexError):
        ask(asker, read=wrongly)
    came = exchanges[0].came
    assert (came.error, came.reply is None) == ("IndexError", False)
    assert "[reply][1]" in (came.reason or "")


def test_the_servers_own_words_are_recorded_without_secrets(
    serve: Serve, asker_at: AskerAt, exchanges: list[Exchange]
) -> None:
    server = serve([Fail("401", text="planted-key has no access to scripted")])
    asker = asker_at(server.url, key="planted-key")
    with pytest.raises(Exception, match="401"):
        ask(asker)
    said = "*** has no access to scripted"
    assert exchanges[0].came.reason == said
    assert asker.report().words == {"RefusedError": said}


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HTTP_PROXY", "nonsense://proxy:1"), ("SSL_CERT_FILE", "/nowhere/certificates.pem")],
)
def test_a_wrong_proxy_or_certificate_file_is_told(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv(variable, value)
    chat = OpenAIChat(Endpoint.of("http://localhost:9/v1", model="m", environment={}))
    with pytest.raises(UnreachableError, match="proxy or certificates") as caught:
        asyncio.run(chat.complete(QUESTION, mode="text"))
    assert variable in caught.value.remedy
