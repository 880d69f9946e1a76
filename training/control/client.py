"""The client's side of a control port: what a trainer says, as types. No torch, no dgl."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from rudder.training.control.messages import Intervention, Introduction, Rejected, SteeringState
from rudder.training.metrics import Window
from rudder.training.settings import Applied
from rudder.training.workload import Workload

Message = Applied | Rejected | Workload | Window | SteeringState | Intervention
_Sent = Applied | Rejected | Introduction | SteeringState | Intervention | Window
_LINE: TypeAdapter[_Sent] = TypeAdapter(Annotated[_Sent, Field(union_mode="left_to_right")])


def read_message(line: bytes) -> Message | None:
    """Read one line that a port sent; None for what this version does not know."""
    try:
        message = _LINE.validate_json(line)
    except ValidationError:
        return None
    return message.workload if isinstance(message, Introduction) else message
