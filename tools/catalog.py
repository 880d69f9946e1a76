"""The tools by name: what a model is told of each, and its arguments, checked strictly.

Each tool is a class of arguments, whose docstring describes the tool. Arguments are flat and have
no defaults, so that an empty call is never a valid write; where one does not apply there is a
value that says so. What is missing, extra or not finite is refused.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from rudder.tools.calls import Range
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
_MAX_IDS = 1000
_STAGED = (
    " Nothing happens at once: the change is staged, then reviewed against estimates and bounds."
    " State the rows fetched and the exposed wait per step that you expect once the buffer has"
    " filled, as a low and a high end: estimate_effect says what to expect."
)

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
ExpectedRows = Annotated[
    float, Field(ge=0, le=_MAX_EXPECTED, description="expected rows fetched per step")
]
ExpectedWait = Annotated[
    float, Field(ge=0, le=_MAX_EXPECTED, description="expected exposed wait per step, ms")
]


class Arguments(FrozenExact, strict=True):
    """Arguments of any tool."""


class WriteArguments(Arguments):
    """What every write tool is told: the effect that is expected once the buffer has filled."""

    expected_rows_low: ExpectedRows
    expected_rows_high: ExpectedRows
    expected_wait_ms_low: ExpectedWait
    expected_wait_ms_high: ExpectedWait
    reason: Annotated[str, Field(min_length=1, max_length=300, description="why, in one sentence")]

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.expected_rows_low > self.expected_rows_high:
            raise ValueError("expected_rows_low is above expected_rows_high")
        if self.expected_wait_ms_low > self.expected_wait_ms_high:
            raise ValueError("expected_wait_ms_low is above expected_wait_ms_high")
        return self

    @property
    def expected_rows(self) -> Range:
        """Rows fetched per step, the middle of both ends as `mid`."""
        return Range.between(self.expected_rows_low, self.expected_rows_high)

    @property
    def expected_wait_ms(self) -> Range:
        """Exposed wait per step."""
        return Range.between(self.expected_wait_ms_low, self.expected_wait_ms_high)

    def change(self) -> Change:
        """The change that is asked for: of the knobs that the tool has."""
        knobs = self.model_dump(include=set(Change.model_fields))
        return Change(**knobs)


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


class EstimateEffect(Arguments):
    """Estimates what settings would bring per step once the buffer has filled: rows fetched,
    exposed wait and memory, each as low, mid and high, next to keeping things and to the best that
    any buffer of that capacity could do (OPT). Changes nothing. Give the present value of a knob to
    leave it as it is."""

    capacity_rows: Capacity
    eviction_threshold: Threshold
    lookahead_batches: Lookahead
    replacement_interval: Annotated[
        int,
        Field(ge=0, le=MAX_INTERVAL_BATCHES, description="0 where the policy has no rounds"),
    ]
    fetch_row_budget: Annotated[
        int, Field(ge=0, le=MAX_ROWS, description="most used rows fetched eagerly, 0: none")
    ]
    replace_now: Annotated[bool, Field(description="whether to run one replacement round")]

    def change(self, now: BufferSettings) -> Change:
        """The change that leads to these settings from those in force."""
        has_no_rounds = now.replacement_interval is None and not self.replacement_interval
        settings = BufferSettings(
            capacity_rows=self.capacity_rows,
            eviction_threshold=self.eviction_threshold,
            lookahead_batches=self.lookahead_batches,
            replacement_interval=None if has_no_rounds else self.replacement_interval,
        )
        once: dict[str, object] = {"replace_now": self.replace_now}
        if self.fetch_row_budget:
            budget = self.fetch_row_budget
            once["fetch_targets"] = FetchTargets(source="observed", row_budget=budget)
        return Change.between(now, settings).model_copy(update=once)


class SetBufferCapacity(WriteArguments):
    """Sets how many remote rows the buffer keeps. More rows save traffic and take memory,
    which only has to stay within the budget. Growing takes some batches to fill; shrinking drops
    the rows worth least."""

    capacity_rows: Capacity


class SetEvictionThreshold(WriteArguments):
    """Sets the uses per batch from which on a buffered row may not be displaced. 1 lets every row
    go, which is right with a lookahead; lower values hold on to rows that are used often, and stop
    adapting."""

    eviction_threshold: Threshold


class SetFetchTargets(WriteArguments):
    """Fetches rows eagerly, once: the ones observed most, those of highest degree or inclusion
    probability (vip), those of one owner partition, or given ids. Costs their rows at once, and
    pays only if misses are saved soon: to warm up or after a change of phase. The budget may not
    exceed the capacity."""

    source: Literal["observed", "degree", "vip", "hot_set", "owner", "ids"]
    row_budget: Annotated[int, Field(ge=1, le=MAX_ROWS, description="rows at most")]
    owner: Annotated[
        int, Field(ge=0, le=MAX_ROWS, description="partition, for source owner; otherwise 0")
    ]
    ids: Annotated[
        list[Annotated[int, Field(ge=0)]],
        Field(
            max_length=_MAX_IDS,
            description="global node ids, for sources ids and hot_set (there empty: the hot set"
            " of an earlier run that memory has); otherwise empty",
        ),
    ]

    def change(self) -> Change:
        """The change that is asked for."""
        owner = self.owner if self.source == "owner" else None
        targets = FetchTargets(
            source=self.source, row_budget=self.row_budget, owner=owner, ids=tuple(self.ids)
        )
        return Change(fetch_targets=targets)


class SetLookahead(WriteArguments):
    """Sets how many batches are sampled ahead. Knowing the next uses brings evictions nearer to
    OPT; waiting batches take memory, and beyond the reuse distances nothing is gained."""

    lookahead_batches: Lookahead


class SetReplacementInterval(WriteArguments):
    """Sets the batches between replacement rounds, for policies that have them; 0 means on request
    only. Each round fetches rows: rare rounds save traffic, frequent ones adapt."""

    replacement_interval: ReplacementInterval


class ReplaceNow(WriteArguments):
    """Runs one replacement round at the next batch: rows of little use go, the most missed ones are
    fetched. Worth it after a change of phase, seldom otherwise."""

    def change(self) -> Change:
        """The change that is asked for."""
        return Change(replace_now=True)


class KeepCurrent(WriteArguments):
    """Changes nothing, and says why. Right when what could be gained is below the noise, or the
    last change has not settled. Goes with no other write tool. State the rows fetched and the
    exposed wait per step that you expect to go on."""


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
        if not issubclass(arguments, WriteArguments):
            return cls(name, "read", description, arguments)
        stages = arguments is not KeepCurrent
        return cls(name, "write", description + _STAGED * stages, arguments)

    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments: flat, every field required, nothing else allowed; without
        titles and class docs, which only cost tokens."""
        schema = self.arguments.model_json_schema()
        kept = {key: value for key, value in schema.items() if key not in ("title", "description")}
        kept["properties"] = {
            name: {key: value for key, value in field.items() if key != "title"}
            for name, field in schema.get("properties", {}).items()
        }
        return {**kept, "required": kept.get("required", [])}

    def function(self) -> dict[str, Any]:
        """The tool as OpenAI-compatible endpoints take it."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "strict": True,
                "parameters": self.schema(),
            },
        }


SPECS: tuple[ToolSpec, ...] = tuple(
    ToolSpec.of(arguments)
    for arguments in (
        ReadMetrics,
        ReadBufferState,
        ReadWorkload,
        ReadAccessProfile,
        RecallEpisodes,
        EstimateEffect,
        SetBufferCapacity,
        SetEvictionThreshold,
        SetFetchTargets,
        SetLookahead,
        SetReplacementInterval,
        ReplaceNow,
        KeepCurrent,
    )
)


def tool_schemas() -> list[dict[str, Any]]:
    """All tools in the form of OpenAI's function calling, strict."""
    return [spec.function() for spec in SPECS]
