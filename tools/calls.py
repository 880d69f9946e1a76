"""A call of a tool, as a planner made it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Argument = str | int | float | bool | list[int] | None


class ToolCall(BaseModel):
    """One call: the tool's name, and its arguments as they came."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    call_id: str
    tool: str
    arguments: dict[str, Argument]


Outcome = Literal["answered", "staged", "refused", "failed"]


class ToolResult(BaseModel):
    """What a call came to: `content` is JSON, the tool's answer or an error to act on.

    outcome: `answered` a read tool's, `staged` a write tool's, `refused` a call that was wrong,
    `failed` one that was right and broke; error_type: the `kind` of errors.py, None without one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    call_id: str
    tool: str
    outcome: Outcome
    content: str
    error_type: str | None = None

    @property
    def is_error(self) -> bool:
        """Whether nothing was answered or staged."""
        return self.error_type is not None
