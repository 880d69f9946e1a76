"""A model that knows nothing: random answers within the schema it is given, or wild ones.

For tests and benchmarks of what a bad model can do.
"""

from __future__ import annotations

import asyncio
import json
from random import Random

from pydantic import JsonValue

from rudder.agents.llm.messages import JsonObject, Mode, Question, RawCall, Reply, ToolForm

_MAX_NUMBER = 2**31 - 1
_WILD = (
    "null", "[]", "0", '""', "", "{}", "NaN", "-1", "1e999", "-1e308", "true", '"all"', "[1, 2]",
    "99999999999999999999999", "0.5", "2147483648", "-0.0", '{"a": 1}', "Infinity", '"\\ud800"',
)  # fmt: skip


class RandomChat:
    """The same answers for the same seed."""

    model = "random"
    mode: Mode | None = "tools"

    def __init__(self, seed: int, *, wildness: float = 0.0, delay_s: float = 0.0) -> None:
        """wildness: chance of each value to break its schema, 0 to 1; delay_s: seconds to each
        answer."""
        self._random, self._wildness, self._delay_s = Random(seed), wildness, delay_s

    async def complete(self, question: Question, *, mode: Mode) -> Reply:
        """A call of any of the tools."""
        await asyncio.sleep(self._delay_s)
        return self.reply(question.tools, question.user)

    async def close(self) -> None:
        """Nothing is open."""

    def reply(self, tools: tuple[ToolForm, ...], prompt: str = "") -> Reply:
        """A call of one of these tools, or several calls or none if it is wild."""
        tool = self._random.choice(tools)
        calls = [RawCall(name=tool.name, arguments=self.arguments(tool.parameters))]
        if self._is_wild(share=0.1):
            calls *= self._random.choice((0, 2))
        return Reply(text="" if calls else self._wild(), calls=tuple(calls))

    def arguments(self, schema: JsonObject, prompt: str = "") -> str:
        """JSON text of an object of this schema, or of a wild one, whatever the prompt says."""
        properties = schema["properties"]
        assert isinstance(properties, dict)
        required = schema.get("required", [])
        assert isinstance(required, list)
        values = {
            name: self._value(of)
            for name, of in properties.items()
            if name in required or self._random.random() < 1 / 2
        }
        if self._is_wild(share=0.2) and values:
            values.pop(self._random.choice(list(values)))
        pairs = [f"{json.dumps(name)}: {value}" for name, value in values.items()]
        if self._is_wild(share=0.1):
            pairs.append(self._random.choice(pairs or ['"x": 1']))
        text = "{" + ", ".join(pairs) + "}"
        return text[: self._random.randrange(len(text))] if self._is_wild(share=0.1) else text

    def _value(self, schema: JsonValue) -> str:
        """JSON text of a value that the schema allows, or of a wild one."""
        assert isinstance(schema, dict)
        if self._is_wild():
            return self._wild()
        if isinstance(choices := schema.get("enum"), list):
            return json.dumps(self._random.choice(choices))
        if schema.get("type") == "string":
            return '"random"'
        if schema.get("type") == "boolean":
            return self._random.choice(("true", "false"))
        low, high = schema.get("minimum", 0), schema.get("maximum", _MAX_NUMBER)
        assert isinstance(low, int | float)
        assert isinstance(high, int | float)
        if schema.get("type") == "integer":
            return str(self._random.randint(int(low), int(high)))
        return repr(self._random.uniform(low, min(high, 1e6)))

    def _wild(self) -> str:
        return self._random.choice(_WILD)

    def _is_wild(self, *, share: float = 1.0) -> bool:
        return self._random.random() < self._wildness * share
