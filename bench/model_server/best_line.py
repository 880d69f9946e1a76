"""A model that reads: it takes the best what-if line of its prompt, and knows nothing else.

For tests, and for measuring what the prompts make possible.
"""

from __future__ import annotations

import asyncio
import json
import re

from rudder.agents.llm.messages import JsonObject, Mode, Question, RawCall, Reply, ToolForm

_LINE = re.compile(
    r"- (?P<change>.*): rows (?P<rows>\S+)\.\.(?P<most_rows>[^\s,]+), wait (?P<wait>\S+)\.\."
    r"(?P<most_wait>\S+) ms"
)
_KNOB = re.compile(r"(\w+) ([\d.e+]+)")
_LEAST_WAIT_MS = 0.05
"""Waits nearer to each other count as equal; then fewer rows decide."""


class BestLineChat:
    """Sets what the line with the least wait says, of equals the one with the fewest rows; keeps
    things if no line is better than keeping them."""

    model = "best-line"
    mode: Mode | None = "tools"

    def __init__(self, *, delay_s: float = 0.0) -> None:
        """delay_s: seconds to each answer."""
        self._delay_s = delay_s

    async def complete(self, question: Question, *, mode: Mode) -> Reply:
        """A call of the first tool."""
        await asyncio.sleep(self._delay_s)
        return self.reply(question.tools, question.user)

    def reply(self, tools: tuple[ToolForm, ...], prompt: str) -> Reply:
        """A call of the first of these tools."""
        arguments = self.arguments(tools[0].parameters, prompt)
        return Reply(calls=(RawCall(name=tools[0].name, arguments=arguments),))

    def arguments(self, schema: JsonObject, prompt: str) -> str:
        """JSON text of what the best line says; of an observer and a critic, the first words that
        their schemas have."""
        said = {"reason": "the best line of all"}
        return json.dumps(said | (_first_words(schema) or best_line(prompt)))

    async def close(self) -> None:
        """Nothing is open."""


def best_line(prompt: str) -> dict[str, object]:
    """What the best line sets; nothing if keeping things is as good."""
    found: list[tuple[float, float, str]] = [(0.0, 0.0, "")]
    for line in prompt.splitlines():
        if (match := _LINE.match(line)) is not None:
            wait = (float(match["wait"]) + float(match["most_wait"])) / 2
            rows = (float(match["rows"]) + float(match["most_rows"])) / 2
            found.append((round(wait / _LEAST_WAIT_MS), rows, match["change"]))
    change = min(found)[2]
    knobs: dict[str, object] = {name: json.loads(value) for name, value in _KNOB.findall(change)}
    return {**knobs, "replace_now": True} if "replace_now" in change else knobs


def _first_words(schema: JsonObject) -> dict[str, object]:
    """Of a schema that has words to choose from."""
    fields = schema["properties"]
    assert isinstance(fields, dict)
    known = {name: field for name, field in fields.items() if isinstance(field, dict)}
    if not any("enum" in field for field in known.values()):
        return {}
    choices = {name: field.get("enum") for name, field in known.items() if name != "reason"}
    return {name: each[0] if isinstance(each, list) else 0 for name, each in choices.items()}
