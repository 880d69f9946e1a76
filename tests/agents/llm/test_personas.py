"""Servers that imitate providers, one row each: what they refuse, and how they answer.

The rows are from public issue trackers; the services themselves were not asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.openai_chat import OpenAIChat
from rudder.bench.model_server.scripted_server import (
    ChatRequest,
    Fail,
    Fault,
    Send,
    Step,
    completion,
    with_calls,
    with_text,
)
from rudder.cli.endpoint_probe import ProbeReport, probe
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import Change
from tests.agents.llm.conftest import AskerAt, Serve, waiting

Body = dict[str, Any]
Rule = tuple[Callable[[Body], bool], str]
"""Which requests are refused, and the server's words."""
GROWN = Change(capacity_rows=900, lookahead_batches=12)
ARGUMENTS: dict[str, Any] = {"reason": "more fits", "capacity_rows": 900, "lookahead_batches": 12}
TEXT = json.dumps(ARGUMENTS)


def has(field: str, words: str = "Unsupported parameter: '{}'") -> Rule:
    return lambda body: field in body, words.format(field)


def has_text(text: str, words: str) -> Rule:
    return lambda body: text in json.dumps(body), words


def has_tools_and_reasons(body: Body) -> bool:
    return "tools" in body and body.get("reasoning_effort") != "none"


BARE_LIMIT = has("max_tokens", "Unsupported parameter: '{}'. Use 'max_completion_tokens' instead.")
BOTH_LIMITS: Rule = (
    lambda body: {"max_tokens", "max_completion_tokens"} <= body.keys(),
    "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
)
TEMPERATURE = has("temperature", "Unsupported value: '{}' does not support 0 with this model.")
STRICT = has_text('"strict"', "tools.0.custom.strict: Extra inputs are not permitted")
BOUNDS = has_text('"maximum"', "For 'integer' type, properties maximum, minimum are not supported")
TOOLS: Rule = (lambda body: "tools" in body, "this model does not support tools")


@dataclass(frozen=True)
class Persona:
    """refuses: by the first rule that holds; message: of an answer, by whether tools were offered;
    changes: how many fields of a request are changed for it; mode: that is found to work."""

    refuses: tuple[Rule, ...] = ()
    status: Fault = "400"
    message: Callable[[bool], dict[str, Any]] = lambda tools: (
        with_calls([("set", TEXT)]) if tools else with_text(TEXT)
    )
    changes: int = 0
    mode: str = "tools"

    def __call__(self, request: ChatRequest) -> Step:
        for is_wrong, words in self.refuses:
            if is_wrong(request.body):
                return Fail(self.status, text=words)
        message = self.message(bool(request.tools))
        return Send(json.dumps(completion(message)).encode())


def written(text: str) -> Callable[[bool], dict[str, Any]]:
    return lambda tools: with_text(text)


PERSONAS = {
    "azure, litellm, volcengine": Persona((BOTH_LIMITS,)),
    "mistral": Persona((has("max_completion_tokens", "Extra inputs: {}"),), status="422"),
    "o-series": Persona((BARE_LIMIT, TEMPERATURE, has("parallel_tool_calls")), changes=3),
    "gpt-5": Persona((BARE_LIMIT, TEMPERATURE), changes=2),
    "newest gpt": Persona(
        (
            BARE_LIMIT,
            (has_tools_and_reasons, "Function tools with reasoning_effort are not supported."),
        ),
        changes=2,
    ),
    "claude": Persona((TEMPERATURE, STRICT, BOUNDS), changes=2),
    "openrouter": Persona((STRICT, BOUNDS), changes=1),
    "kimi": Persona((has("temperature", "invalid temperature: only 1 is allowed"),), changes=1),
    "deepseek thinking": Persona(
        (has("tool_choice", "Thinking mode does not support this tool_choice"),), changes=1
    ),
    "without words": Persona(
        (has("parallel_tool_calls", ""), has_text('"maximum"', "")), changes=5
    ),
    "without tools": Persona((TOOLS,), changes=0, mode="structured"),
    "ollama": Persona(message=lambda tools: with_calls([("set", ARGUMENTS)])),
    "gemini": Persona(message=lambda tools: {
        "role": "assistant", "content": [{"type": "text", "text": TEXT}]
    }),
    "qwen": Persona(
        message=written(f'<tool_call>{{"name": "set", "arguments": {TEXT}}}</tool_call>')
    ),
    "llama": Persona(message=written(f'{{"name": "set", "parameters": {TEXT}}}')),
    "r1": Persona(message=written(f"The buffer is small.</think>\n\n{TEXT}")),
    "several calls": Persona(message=lambda tools: with_calls([
        ("set", json.dumps({"reason": "more fits", "capacity_rows": 900})),
        ("set", json.dumps({"reason": "and", "lookahead_batches": 12})),
    ]) if tools else with_text(TEXT)),
    "long-winded": Persona(message=written(json.dumps({**ARGUMENTS, "reason": "so " * 400}))),
}  # fmt: skip


@pytest.mark.parametrize("name", PERSONAS)
def test_a_model_behind_any_provider_plans(
    name: str,
    serve: Serve,
    asker_at: AskerAt,
    observation: Observation,
    toolbox: Toolbox,
    exchanges: list[Exchange],
) -> None:
    persona = PERSONAS[name]
    asker = asker_at(serve(persona).url, mode=None)

    async def run() -> Plan:
        plan = await waiting(asker).plan(observation, (), toolbox)
        await asker.close()
        return plan

    plan = asyncio.run(run())
    assert (plan.planner, plan.change) == ("llm:scripted", GROWN)
    assert asker.report().mode == persona.mode
    assert exchanges[-1].came.error is None


@pytest.mark.parametrize("name", PERSONAS)
def test_the_doctor_finds_the_same_way(name: str, serve: Serve) -> None:
    persona = PERSONAS[name]
    server = serve(persona)

    async def run() -> ProbeReport:
        chat = OpenAIChat(Endpoint.of(server.url, model="m", environment={}))
        found = await probe(chat, repeats=1, deadline_s=5.0, warm_up_s=5.0)
        await chat.close()
        return found

    report = asyncio.run(run())
    assert report.best == persona.mode
    assert len(report.request_changes) == persona.changes, report.request_changes
