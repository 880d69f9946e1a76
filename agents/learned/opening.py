"""The planner that a run's options name, with its model from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from rudder.training.errors import ConfigError
from rudder.training.steering_options import ClassifierName, PlannerName, SteeringOptions

if TYPE_CHECKING:
    from rudder.agents.learned.model_file import Header
    from rudder.agents.learned.planner import LearnedPlanner


def is_learned(planner: PlannerName) -> bool:
    """Whether a planner needs the file of a model."""
    return planner == "learned" or planner in get_args(ClassifierName)


def check_model(planner: PlannerName, path: Path | None) -> Header | None:
    """Before a run starts: that there is a file, and that it is of this planner; None where the
    planner needs none.

    Raises ConfigError and DataError; imports no library of the model's.
    """
    if not is_learned(planner):
        return None
    from rudder.agents.learned.model_file import read_header

    return read_header(_given(planner, path), planner=_kind(planner))


def open_planner(options: SteeringOptions) -> LearnedPlanner:
    """Raises ConfigError without a file, DataError where it is unusable, MachineError where its
    library is missing."""
    from rudder.agents.learned.model_file import read_model
    from rudder.agents.learned.planner import LearnedPlanner

    path = _given(options.planner, options.planner_model)
    model = read_model(path, planner=_kind(options.planner))
    return LearnedPlanner(model, refit_every=options.planner_refit_every)


def _kind(planner: PlannerName) -> ClassifierName | None:
    return None if planner == "learned" else cast("ClassifierName", planner)


def _given(planner: PlannerName, path: Path | None) -> Path:
    if path is None:
        raise ConfigError(
            f"planner_model: planner {planner} needs a fitted model",
            remedy="give --planner-model FILE; `rudder fit` makes one",
        )
    return path
