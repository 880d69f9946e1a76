"""What is sent to a model and what comes back, independent of the protocol."""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import JsonValue

from rudder.training.settings import FrozenExact

Mode = Literal["tools", "structured", "text"]
AgentRole = Literal["observer", "planner", "critic", "probe", "ask"]
TokensSource = Literal["server", "estimated", "missing"]
JsonObject = dict[str, JsonValue]

MAX_TEXT = 16_384
"""Characters of a usable answer; what is longer is refused."""
MAX_NAME = 200
MAX_CALLS = 8
CHARS_PER_TOKEN = 3
"""For estimates. Prose has four and more, tables of numbers about three: this errs upwards."""

SCHEMA_IN_WORDS = "ANSWER with one JSON object of this schema, nothing else:"
"""What comes before the schema in text mode."""


class ToolForm(FrozenExact):
    """A tool that the model may call: its name, what it does, the JSON schema of its arguments."""

    name: str
    description: str
    parameters: JsonObject


class Question(FrozenExact):
    """One question. `schema_` is of the whole answer, where tools are not used.

    complaint: what was wrong with the first answer, in our words; None the first time.
    """

    role: AgentRole
    system: str
    user: str
    tools: tuple[ToolForm, ...]
    schema_: JsonObject
    complaint: str | None = None

    @classmethod
    def of(cls, role: AgentRole, form: ToolForm, *, system: str, user: str) -> Question:
        """A question whose answer is a call of one tool."""
        return cls(role=role, system=system, user=user, tools=(form,), schema_=form.parameters)

    def texts(self, mode: Mode) -> list[tuple[Literal["system", "human"], str]]:
        """The messages in order; only text mode has the schema in words."""
        user = self.user
        if mode == "text":
            user += f"\n\n{SCHEMA_IN_WORDS}\n{self._words()}"
        elif mode == "structured":
            user += "\n\nANSWER with one JSON object of the given schema."
        else:
            user += "\n\nANSWER with a tool call."
        if self.complaint is not None:
            user += f"\n\nYour last answer could not be used: {self.complaint}. Answer again."
        return [("system", self.system), ("human", user)]

    def estimated_tokens(self, mode: Mode) -> int:
        """Tokens of the messages and of the schemas that go with them, by CHARS_PER_TOKEN."""
        size = sum(len(text) for _, text in self.texts(mode))
        if mode == "tools":
            size += sum(len(tool.model_dump_json()) for tool in self.tools)
        elif mode == "structured":
            size += len(self._words())
        return estimate_tokens(size)

    def _words(self) -> str:
        return self.model_dump_json(include={"schema_"})[len('{"schema_":') : -1]


class RawCall(FrozenExact):
    """A call of a tool as the endpoint sent it; arguments None where they were not a text."""

    name: str
    arguments: str | None


class Usage(FrozenExact):
    """Tokens of one call, and who counted them."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    source: TokensSource = "missing"

    @property
    def total(self) -> int:
        """Both together; what is not known counts nothing."""
        return (self.input_tokens or 0) + (self.output_tokens or 0)


class Reply(FrozenExact):
    """A model's answer, not yet read. finish: as the endpoint said, `length` where it was cut."""

    text: str = ""
    calls: tuple[RawCall, ...] = ()
    finish: str | None = None
    usage: Usage = Usage()

    @classmethod
    def of(cls, text: str, *, calls: list[RawCall], finish: str | None) -> Reply:
        """Clipped to a little more than any usable answer has; raises ValueError for text that is
        not Unicode."""
        clipped = tuple(
            RawCall(name=c.name[:MAX_NAME], arguments=_clip(c.arguments)) for c in calls[:MAX_CALLS]
        )
        return cls(text=text[: MAX_TEXT + 1], calls=clipped, finish=finish and finish[:MAX_NAME])

    @property
    def size(self) -> int:
        """Characters of text and calls."""
        return len(self.text) + sum(len(c.name) + len(c.arguments or "") for c in self.calls)


def estimate_tokens(num_chars: int) -> int:
    """Tokens of so many characters, rather too many than too few."""
    return -(-num_chars // CHARS_PER_TOKEN)


def _clip(text: str | None) -> str | None:
    return None if text is None else text[: MAX_TEXT + 1]


class Chat(Protocol):
    """Something that answers questions."""

    @property
    def model(self) -> str:
        """The model's name, for the record."""

    @property
    def mode(self) -> Mode | None:
        """The one mode that it works in; None: to be found out."""

    async def complete(self, question: Question, *, mode: Mode) -> Reply:
        """One answer, as it came; raises ChatError."""

    async def close(self) -> None:
        """Let go of connections."""
