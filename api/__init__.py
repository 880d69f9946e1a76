"""Trains GNNs on DistDGL with a prefetch buffer that agents steer: what `import rudder` offers.

Each name is loaded when it is first used, so that this import needs neither torch nor dgl.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rudder.agents.planners.own import (
        Change,
        Observation,
        Plan,
        Planner,
        Recalled,
        Toolbox,
    )
    from rudder.cli.python import train
    from rudder.training.buffer.own import NewBuffer, OwnBuffer
    from rudder.training.errors import (
        ConfigError,
        DataError,
        MachineError,
        RudderError,
        RunError,
        StoppedError,
    )
    from rudder.training.loader import (
        BufferOptions,
        EdgeLoader,
        EdgeSplit,
        InBatchNegatives,
        NodeLoader,
        PerSourceNegatives,
        RunOptions,
        SamplingOptions,
        SteeringOptions,
        UniformNegatives,
    )
    from rudder.training.model.saved import load_model
    from rudder.training.wire.services import register_services

__all__ = [
    "BufferOptions",
    "Change",
    "ConfigError",
    "DataError",
    "EdgeLoader",
    "EdgeSplit",
    "InBatchNegatives",
    "MachineError",
    "NewBuffer",
    "NodeLoader",
    "Observation",
    "OwnBuffer",
    "PerSourceNegatives",
    "Plan",
    "Planner",
    "Recalled",
    "RudderError",
    "RunError",
    "RunOptions",
    "SamplingOptions",
    "SteeringOptions",
    "StoppedError",
    "Toolbox",
    "UniformNegatives",
    "load_model",
    "register_services",
    "train",
]

_OWN_PLANNER, _OWN_POLICY = "rudder.agents.planners.own", "rudder.training.buffer.own"
_MODULES = {
    **dict.fromkeys(
        ("Change", "Observation", "Plan", "Planner", "Recalled", "Toolbox"), _OWN_PLANNER
    ),
    **dict.fromkeys(("NewBuffer", "OwnBuffer"), _OWN_POLICY),
    "load_model": "rudder.training.model.saved",
    "register_services": "rudder.training.wire.services",
    "train": "rudder.cli.python",
}
"""Where a name is defined that is neither an error nor in `rudder.training.loader`."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'rudder' has no attribute {name!r}")
    usual = "rudder.training.errors" if name.endswith("Error") else "rudder.training.loader"
    return getattr(importlib.import_module(_MODULES.get(name, usual)), name)


def __dir__() -> list[str]:
    return sorted(__all__)
