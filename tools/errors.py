"""Why a tool call did not do what was asked; part of the tree of training/errors.py.

RudderError
└── ToolError                a call that was not carried out
    ├── UnknownToolError     there is no tool of that name
    ├── InvalidArgumentsError  arguments are missing, extra, of another type or not finite
    ├── OutOfBoundsError     a value outside its bounds; nothing is clamped
    ├── ConflictError        the call contradicts one that is staged already
    └── NotReadyError        too little was measured so far to answer

`kind` is what a model and the audit log are shown.
"""

from __future__ import annotations

from typing import ClassVar

from rudder.training.errors import RudderError


class ToolError(RudderError):
    """A call that was not carried out: what is wrong, and what to do instead."""

    kind: ClassVar[str] = "tool_error"


class UnknownToolError(ToolError):
    """There is no tool of that name."""

    kind = "unknown_tool"


class InvalidArgumentsError(ToolError):
    """The arguments do not have the tool's form."""

    kind = "invalid_arguments"


class OutOfBoundsError(ToolError):
    """A value that this run does not allow."""

    kind = "out_of_bounds"


class ConflictError(ToolError):
    """The call contradicts one that is staged already."""

    kind = "conflict"


class NotReadyError(ToolError):
    """Too little was measured so far."""

    kind = "not_ready"
