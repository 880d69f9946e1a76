"""A finished episode with what is needed to use it elsewhere; one line of an export."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from rudder.memory.records import Episode
from rudder.training.workload import Workload


class PastEpisode(BaseModel):
    """origin: the memory that saw it first; ended_at: UTC, ISO 8601."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    origin: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
    ended_at: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]
    workload: Workload
    episode: Episode
