"""A call of a tool, as a planner made it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Argument = str | int | float | bool | list[int] | None


class ToolCall(BaseModel):
    """One call: the tool's name, and its arguments as they came."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    call_id: str
    tool: str
    arguments: dict[str, Argument]
