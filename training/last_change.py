"""The last change that a rank's controller made, as a run's summary tells it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Judgement = Literal["confirmed", "reverted", "abandoned", "unjudged"]


class LastChange(BaseModel):
    """step: from which on it held; change: for people; judgement: what its trial came to,
    `unjudged` where the run ended first."""

    model_config = ConfigDict(frozen=True)

    step: int
    change: str
    judgement: Judgement
