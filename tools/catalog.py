"""The tools by name: what a model is told of each, and its arguments, checked strictly.

Each tool is a class of arguments, whose docstring describes the tool. Arguments are flat; a knob
that is left out, or null, stays as it is. Only a reason is always asked for, so that an empty call
is never a valid write. What is extra, of another type or not finite is refused.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from rudder.training.settings import (
    MAX_INTERVAL_BATCHES,
    MAX_LOOKAHEAD_BATCHES,
    BufferSettings,
    Change,
    FetchTargets,
    FrozenExact,
)

MAX_ROWS = 2**31 - 1
_MAX_EXPECTED = 1e12
MAX_REASON = 300
_MAX_PROBLEMS = 3

Capacity = Annotated[int, Field(ge=0, le=MAX_ROWS, description="rows the buffer holds")]
Threshold = Annotated[
    float,
    Field(ge=0, le=1, description="uses per batch; rows used less may be displaced, 1: every row"),
]
Lookahead = Annotated[
    int, Field(ge=0, le=MAX_LOOKAHEAD_BATCHES, description="batches sampled ahead")
]
ReplacementInterval = Annotated[
    int,
    Field(ge=0, le=MAX_INTERVAL_BATCHES, description="batches between rounds, 0: on request only"),
]
FetchBudget = Annotated[
    int,
    Field(ge=0, le=MAX_ROWS, description="most used rows to fetch while the link idles, 0: none"),
]
Expected = Annotated[float, Field(ge=0, le=_MAX_EXPECTED)]


def _cut(reason: object) -> object:
    return reason[:MAX_REASON] if isinstance(reason, str) else reason


Reason = Annotated[
    str, BeforeValidator(_cut), Field(max_length=MAX_REASON, description="why, in one sentence")
]
"""One that is too long is cut: the rest of the answer is as good as ever."""


class Arguments(FrozenExact, strict=True):
    """Arguments of any tool."""


class Knobs(Arguments):
    """All that one change may set."""

    capacity_rows: Capacity | None = None
    lookahead_batches: Lookahead | None = None
    eviction_threshold: Threshold | None = None
    replacement_interval: ReplacementInterval | None = None
    fetch_row_budget: FetchBudget | None = None
    replace_now: Annotated[bool, Field(description="run one round of replacement")] | None = None

    def change(self, now: BufferSettings) -> Change:
        """The change that leads to these settings from those in force."""
        has_no_rounds = now.replacement_interval is None and not self.replacement_interval
        given = {name: value for name, value in self if name in BufferSettings.model_fields}
        wanted = {name: value for name, value in given.items() if value is not None}
        if has_no_rounds:
            wanted.pop("replacement_interval", None)
        once: dict[str, object] = {"replace_now": True} if self.replace_now else {}
        if self.fetch_row_budget:
            once["fetch_targets"] = FetchTargets(
                source="observed", row_budget=self.fetch_row_budget, while_idle=True
            )
        return Change.between(now, now.model_copy(update=wanted)).model_copy(update=once)


class _Reasoned(Arguments):
    """Comes first, so that a model gives its reason before it decides."""

    reason: Reason


class ReadMetrics(Arguments):
    """Reads the last measured windows of this trainer, per step: remote rows, rows fetched over the
    network, hit share, exposed wait (the trainer standing still for data) and step time; with the
    noise between windows, trends, how far loading is ahead of training, and the pace of the other
    trainers. A difference below the noise means nothing."""

    num_windows: Annotated[int, Field(ge=1, le=16, description="windows, the last ones")]


class ReadBufferState(Arguments):
    """Reads the settings in force, how many rows the buffer holds, its memory, the largest capacity
    allowed, and whether the measurements have settled since the last change. Before they have,
    estimates beat measurements."""


class ReadWorkload(Arguments):
    """Reads what does not change: sizes of graph and partition, bytes of a row, batch size,
    fan-outs, steps left, memory room, the buffer's policy, and for each knob the values allowed.
    Knobs that are not allowed with this policy must be left alone."""


class ReadAccessProfile(Arguments):
    """Reads how remote nodes are used, from a sample of the last batches: working set, reuse
    distances in batches, the share of nodes used once only (no buffer helps them), how much the
    hottest tenth is used, drift against earlier windows, and rows and time per owner partition.
    High drift asks for less history: a longer lookahead rather than capacity."""


class RecallEpisodes(Arguments):
    """Recalls past decisions in circumstances like these, nearest first: what was changed, what it
    was expected to bring, and what it brought. Do not repeat what was reverted."""

    num_episodes: Annotated[int, Field(ge=1, le=10, description="episodes, the nearest ones")]


class EstimateEffect(Knobs):
    """Estimates what settings would bring per step once the buffer has filled: rows fetched,
    exposed wait and memory, each as low, mid and high, next to keeping things and to the best that
    any buffer of that capacity could do (OPT). Changes nothing. What is left out stays as it is."""


class Set(Knobs, _Reasoned):
    """Sets any of the buffer's knobs in one change, or keeps things, if only a reason is given.
    What is left out stays as it is. Nothing happens at once: the change is staged, then reviewed
    against estimates and bounds. State the rows fetched and the exposed wait per step that you
    expect once the buffer has filled."""

    expected_rows: Annotated[Expected, Field(description="rows fetched per step")] | None = None
    expected_wait_ms: Annotated[Expected, Field(description="exposed wait per step")] | None = None


@dataclass(frozen=True)
class ToolSpec:
    """A tool: reads answer at once, writes only stage a change.

    arguments: the pydantic model of what it is told.
    """

    name: str
    kind: Literal["read", "write"]
    description: str
    arguments: type[Arguments]

    @classmethod
    def of(cls, arguments: type[Arguments]) -> ToolSpec:
        """The tool that has the name and the docstring of its arguments."""
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", arguments.__name__).lower()
        description = inspect.cleandoc(arguments.__doc__ or "").replace("\n", " ")
        return cls(name, "write" if arguments is Set else "read", description, arguments)

    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments."""
        return flat_schema(self.arguments)

    def function(self) -> dict[str, Any]:
        """The tool as OpenAI-compatible endpoints take it."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": self.schema(),
            },
        }


def flat_schema(form: type[BaseModel]) -> dict[str, Any]:
    """JSON schema of a form: flat, nothing else allowed; without titles and class docs, which only
    cost tokens, and without the null that stands for leaving a field out."""
    schema = form.model_json_schema()
    return {
        "type": "object",
        "properties": {name: _flat(field) for name, field in schema.get("properties", {}).items()},
        "required": schema.get("required", []),
        "additionalProperties": False,
    }


def _flat(field: dict[str, Any]) -> dict[str, Any]:
    kind = field.get("anyOf", [{}])[0]
    return {k: v for k, v in {**field, **kind}.items() if k not in ("title", "default", "anyOf")}


SPECS: tuple[ToolSpec, ...] = tuple(
    ToolSpec.of(arguments)
    for arguments in (
        ReadMetrics,
        ReadBufferState,
        ReadWorkload,
        ReadAccessProfile,
        RecallEpisodes,
        EstimateEffect,
        Set,
    )
)


def tool_schemas() -> list[dict[str, Any]]:
    """All tools in the form of OpenAI's function calling."""
    return [spec.function() for spec in SPECS]


def problems(error: ValidationError, *, known: Collection[str]) -> str:
    """What is wrong with which argument; a name that is not known is not repeated."""

    def name(location: tuple[int | str, ...]) -> str:
        named = [str(each) for each in location[:1] if each in known]
        return named[0] if named else "an unknown argument" if location else "arguments"

    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{name(each['loc'])}: {each['msg']}" for each in found[:_MAX_PROBLEMS])
