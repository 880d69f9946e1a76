"""How a run is steered: what its controllers are told when they start."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field

ClassifierName = Literal["lr", "rf", "svm", "mlp", "xgb", "tabnet"]
PlannerName = Literal[
    "embedded",
    "fixed",
    "periodic",
    "heuristic",
    "llm",
    "collect",
    "learned",
    ClassifierName,
    "adversarial",
]
LlmRole = Literal["observer", "planner", "critic"]
Objective = Literal["wait", "traffic", "memory"]
DEFAULT_ANSWER_TOKENS = 2048
"""Of a language model's answer; most need 150, but reasoning counts, too, and 1,024 cut it."""


def default_memory() -> Path:
    """Where past episodes are kept across runs."""
    return user_data_path("rudder") / "memory.db"


class SteeringOptions(BaseModel):
    """What `rudder train` and `NodeLoader` pass on to a controller, as JSON.

    objective: `wait` least exposed wait, then the smaller buffer; `traffic` fewest rows
    fetched; `memory` the smallest buffer whose step time is within `tolerance` of the best;
    memory_budget_bytes: of all buffers of one host together, None: what the host has left;
    memory: file of past episodes, None: no memory across runs; llm_key is never here:
    controllers read it from the environment variable RUDDER_LLM_KEY; llm_socket: Unix-domain
    socket that leads to llm_url's host, where a controller cannot reach that itself; llm_extra:
    JSON object of further fields of each request; planner: `collect` explores, a classifier's
    name or `learned` (whatever the file holds) is a fitted model, `adversarial` is for tests
    and wants harm; planner_model: file of a fitted one; planner_refit_every: measured changes
    of this run after which it learns on, None: never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    planner: PlannerName = "embedded"
    planner_model: Path | None = None
    planner_refit_every: int | None = Field(None, ge=1)
    objective: Objective = "wait"
    tolerance: float = Field(0.01, ge=0, le=1)
    memory_budget_bytes: int | None = Field(None, ge=0)
    memory: Path | None = None
    trial_windows: int = Field(2, ge=1, le=64)
    llm_url: str | None = None
    llm_model: str | None = None
    llm_roles: tuple[LlmRole, ...] = ("planner",)
    llm_deadline_s: float = Field(20.0, gt=0)
    llm_answer_tokens: int = Field(DEFAULT_ANSWER_TOKENS, ge=16, le=32_768)
    llm_extra: str | None = None
    llm_max_calls: int = Field(200, ge=0)
    llm_max_tokens: int = Field(1_000_000, ge=0)
    llm_socket: Path | None = None
    seed: int = 0
