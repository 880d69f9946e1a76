"""How a run is steered: what its controllers are told when they start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from platformdirs import user_data_path
from pydantic import AfterValidator, BeforeValidator, Field

from rudder.training.options import Options
from rudder.training.plugins import ChosenName, Plugins
from rudder.training.settings import Frozen

__all__ = ["SteeringOptions"]

ClassifierName = Literal["lr", "rf", "svm", "mlp", "xgb", "tabnet"]
PlannerName = Literal[
    "embedded",
    "fixed",
    "periodic",
    "heuristic",
    "llm",
    "collect",
    "learned",
    "published",
    ClassifierName,
    "adversarial",
]
OWN_PLANNERS = Plugins("rudder.planners", field="planner", ours=get_args(PlannerName))
LlmRole = Literal["observer", "planner", "critic"]


def _with_planner(roles: tuple[LlmRole, ...]) -> tuple[LlmRole, ...]:
    if "planner" not in roles:
        raise ValueError("planner must be among them: observer and critic serve the model's plans")
    return roles


LlmRoles = Annotated[tuple[LlmRole, ...], AfterValidator(_with_planner)]


def _objective(value: object) -> object:
    """`wait` is the name that earlier versions had for `time`."""
    return "time" if value == "wait" else value


ObjectiveName = Literal["time", "traffic", "memory"]
Objective = Annotated[ObjectiveName, BeforeValidator(_objective)]
OBJECTIVES: tuple[Objective, ...] = get_args(ObjectiveName)
KEY_VARIABLE = "RUDDER_LLM_KEY"
KEY_FILE_VARIABLE = "RUDDER_LLM_KEY_FILE"
"""Path of a file that holds the key, as secrets are handed to containers and jobs."""
DEFAULT_ANSWER_TOKENS = 2048
"""Of a language model's answer; most need 150, but reasoning counts, too, and 1,024 cut it."""


def default_memory() -> Path:
    """Where past episodes are kept across runs."""
    return user_data_path("rudder") / "memory.db"


class AgentOptions(Frozen):
    """What a loader and a run tell their agents under the same names."""

    planner: ChosenName = "embedded"
    """Who proposes changes. `collect` explores; a classifier's name or `learned` uses a fitted
    model; `published` answers yes or no to a round of replacement, with the policy `score`;
    `adversarial` is for tests and proposes harmful changes. A package may add planners
    (docs/plugins.md)."""
    planner_model: Path | None = None
    """File of a fitted planner, as `rudder fit` writes it."""
    planner_refit_every: int | None = Field(None, ge=1)
    """Measured changes of this run after which a fitted planner learns on. None: never."""
    objective: Objective = "time"
    """`time`: the shortest step, and of equal ones the one with the fewest rows fetched.
    `traffic`: the fewest rows fetched. `memory`: the smallest buffer whose step time is within
    `tolerance` of the best."""
    tolerance: float = Field(0.01, ge=0, le=1)
    """Fraction of a step that is no difference; with `memory`, what a smaller buffer may cost."""
    memory: Path | None = None
    """File of past episodes. None: nothing is recalled from other runs."""
    llm_model: str | None = None
    """The model's name at that endpoint."""
    llm_roles: LlmRoles = ("planner",)
    """As what the model is asked: `planner`, and `observer` before it and `critic` after it."""
    llm_answer_tokens: int = Field(DEFAULT_ANSWER_TOKENS, ge=16, le=32_768)
    """Most tokens of one answer, reasoning included."""
    llm_extra: str | None = None
    """JSON object with further fields for each request."""
    llm_max_calls: int = Field(200, ge=0)
    """Questions that a trainer's controller may ask in a run."""
    llm_max_tokens: int = Field(1_000_000, ge=0)
    """Tokens that a trainer's controller may use in a run."""


class SteeringOptions(AgentOptions, Options):
    """How agents steer a loader or a run; every field has a default.

    The key of a language model is never here: controllers read it from the environment variable
    RUDDER_LLM_KEY, or from the file that RUDDER_LLM_KEY_FILE names.
    """

    memory_budget_bytes: int | None = Field(None, ge=0)
    """Bytes for all buffers of one host together. None: half of what the host has left."""
    trial_windows: int = Field(2, ge=1, le=64)
    """Windows on which a change is judged."""
    llm_url: str | None = None
    """Address of an OpenAI-compatible endpoint, up to `/v1`."""
    llm_deadline_s: float = Field(20.0, gt=0)
    """Seconds for all questions about one observation; no decision waits for them."""
    llm_socket: Path | None = None
    """Unix socket that leads to the host of `llm_url`, for controllers that cannot reach it."""
    seed: int = 0
    """Seed of everything that planners draw at random."""

    @property
    def names_model(self) -> bool:
        """Whether there is a model, or a package's planner, to look for before a run starts."""
        is_fitted = self.planner in ("learned", *get_args(ClassifierName))
        is_fitted = is_fitted or OWN_PLANNERS.is_own(self.planner)
        return is_fitted or self.planner_model is not None or self.llm_url is not None
