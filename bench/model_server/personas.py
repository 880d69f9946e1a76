"""Providers, imitated: what their servers refuse, and how their models write an answer.

A row each, from public issue trackers; the services themselves were not asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rudder.bench.model_server.scripted_server import (
    CallTool,
    ChatRequest,
    Fail,
    Fault,
    Say,
    Send,
    Slow,
    Step,
    completion,
)

RequestBody = dict[str, Any]
Said = Say | CallTool
Refused = tuple[Callable[[RequestBody], bool], str]
"""Which requests are refused, and the server's words."""


@dataclass(frozen=True)
class Persona:
    """refuses: by the first rule that holds; written: an answer in the model's way of writing;
    changes: how many fields of a request are changed for it; mode: that is found to work."""

    refuses: tuple[Refused, ...] = ()
    status: Fault = "400"
    written: Callable[[Said], Said | Send] = lambda answer: answer
    changes: int = 0
    mode: str = "tools"

    def step(self, request: ChatRequest, answer: Callable[[ChatRequest], Step]) -> Step:
        """A refusal, or what `answer` gives in this provider's form."""
        for is_wrong, words in self.refuses:
            if is_wrong(request.body):
                return Fail(self.status, text=words)
        match answer(request):
            case Say() | CallTool() as step:
                return self.written(step)
            case Slow(Say() | CallTool() as step, seconds):
                return Slow(self.written(step), seconds)
            case step:
                return step


def _has(field: str, words: str = "Unsupported parameter: '{}'") -> Refused:
    return lambda body: field in body, words.format(field)


def _has_text(text: str, words: str) -> Refused:
    return lambda body: text in json.dumps(body), words


_BARE_LIMIT = _has(
    "max_tokens", "Unsupported parameter: '{}'. Use 'max_completion_tokens' instead."
)
_BOTH_LIMITS: Refused = (
    lambda body: {"max_tokens", "max_completion_tokens"} <= body.keys(),
    "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
)
_TEMPERATURE = _has("temperature", "Unsupported value: '{}' does not support 0 with this model.")
_STRICT = _has_text('"strict"', "tools.0.custom.strict: Extra inputs are not permitted")
_BOUNDS = _has_text(
    '"maximum"', "For 'integer' type, properties maximum, minimum are not supported"
)
_TOOLS_AND_REASONS: Refused = (
    lambda body: "tools" in body and body.get("reasoning_effort") != "none",
    "Function tools with reasoning_effort are not supported.",
)
_NO_TOOLS = _has("tools", "this model does not support {}")


def _text(answer: Said) -> str:
    """The answer without a call; a call of a look-up tool keeps its name."""
    if isinstance(answer, Say) or not answer.calls:
        return answer.text if isinstance(answer, Say) else ""
    name, arguments = answer.calls[0]
    return str(arguments) if name == "set" else _call_in_text(answer, "parameters")


def _call_in_text(answer: Said, arguments_are: str) -> str:
    """The first call as an object in text; what calls nothing stays as it is."""
    if isinstance(answer, Say) or not answer.calls:
        return _text(answer)
    name, arguments = answer.calls[0]
    return f'{{"name": {json.dumps(name)}, "{arguments_are}": {arguments}}}'


def _as_objects(answer: Said) -> Said:
    if isinstance(answer, Say):
        return answer
    return replace(answer, calls=[(name, json.loads(str(text))) for name, text in answer.calls])


def _as_two_calls(answer: Said) -> Said:
    """Two calls that set what one would."""
    if isinstance(answer, Say) or [name for name, _ in answer.calls] != ["set"]:
        return answer
    values = json.loads(str(answer.calls[0][1]))
    reason = {"reason": values.pop("reason", "")}
    names = sorted(values)
    halves = [{name: values[name] for name in part} for part in (names[1:], names[:1])]
    return replace(answer, calls=[("set", json.dumps(reason | half)) for half in halves])


def _long_winded(answer: Said) -> Say:
    text = _text(answer)
    try:
        return Say(json.dumps(json.loads(text) | {"reason": "so " * 400}))
    except ValueError:
        return Say(text)


def _in_parts(answer: Said) -> Send:
    parts = {"role": "assistant", "content": [{"type": "text", "text": _text(answer)}]}
    return Send(json.dumps(completion(parts)).encode())  # type: ignore[arg-type]


PERSONAS = {
    # Also LiteLLM and Volcengine.
    "azure": Persona((_BOTH_LIMITS,)),
    "mistral": Persona((_has("max_completion_tokens", "Extra inputs: {}"),), status="422"),
    "o-series": Persona((_BARE_LIMIT, _TEMPERATURE, _has("parallel_tool_calls")), changes=3),
    "gpt-5": Persona((_BARE_LIMIT, _TEMPERATURE), changes=2),
    "newest-gpt": Persona((_BARE_LIMIT, _TOOLS_AND_REASONS), changes=2),
    "claude": Persona((_TEMPERATURE, _STRICT, _BOUNDS), changes=2),
    "openrouter": Persona((_STRICT, _BOUNDS), changes=1),
    "kimi": Persona((_has("temperature", "invalid temperature: only 1 is allowed"),), changes=1),
    "deepseek-thinking": Persona(
        (_has("tool_choice", "Thinking mode does not support this tool_choice"),), changes=1
    ),
    "without-words": Persona(
        (_has("parallel_tool_calls", ""), _has_text('"maximum"', "")), changes=5
    ),
    "without-tools": Persona((_NO_TOOLS,), mode="structured"),
    "ollama": Persona(written=_as_objects),
    "gemini": Persona(written=_in_parts),
    "qwen": Persona(
        written=lambda answer: Say(f"<tool_call>{_call_in_text(answer, 'arguments')}</tool_call>")
    ),
    "llama": Persona(written=lambda answer: Say(_call_in_text(answer, "parameters"))),
    "r1": Persona(written=lambda answer: Say(f"The buffer is small.</think>\n\n{_text(answer)}")),
    "several-calls": Persona(written=_as_two_calls),
    "long-winded": Persona(written=_long_winded),
}  # fmt: skip
