"""How a model is trained: optimiser, learning-rate schedule, steps that went wrong, early stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn, optim

from rudder.training.config import NamedOptions, OnNan, RunConfig
from rudder.training.errors import ConfigError, DataError, RunError
from rudder.training.metrics import Score

_ACTIONS: dict[OnNan, str] = {
    "stop": "the run ends",
    "skip": "such steps are skipped, on all ranks",
    "continue": "training goes on",
}
_EXPLODED = 1000
"""Times the first loss, or 1 if that is more: a loss above has exploded, and is told once."""

Schedule = optim.lr_scheduler.LRScheduler


def make_optimiser(config: RunConfig, model: nn.Module) -> optim.Optimizer:
    """The optimiser of torch.optim that the config names.

    Raises ConfigError for an unknown name, and for options that it does not take.
    """
    named = config.optimizer_options
    kind = _class_of("optimizer", named, where=optim, base=optim.Optimizer)
    options: dict[str, Any] = {"lr": config.lr, **named.options}
    if config.weight_decay:
        options["weight_decay"] = config.weight_decay
    optimiser: optim.Optimizer = _made(
        "optimizer", named, lambda: kind(model.parameters(), **options)
    )
    return optimiser


def make_schedule(
    config: RunConfig, optimiser: optim.Optimizer
) -> optim.lr_scheduler.LRScheduler | None:
    """The schedule of torch.optim.lr_scheduler that the config names, or None.

    Raises ConfigError as `make_optimiser` does.
    """
    named = config.scheduler_options
    if named is None:
        return None
    schedules = optim.lr_scheduler
    short: dict[str, tuple[str, dict[str, Any]]] = {
        "cosine": ("CosineAnnealingLR", {"T_max": config.epochs}),
        "step": ("StepLR", {"step_size": max(1, config.epochs // 3)}),
        "exponential": ("ExponentialLR", {"gamma": 0.95}),
        "linear": ("LinearLR", {}),
        "plateau": ("ReduceLROnPlateau", {"mode": "max"}),
    }
    name, defaults = short.get(named.name, (named.name, {}))
    whole = NamedOptions(name, {**defaults, **named.options})
    kind = _class_of("scheduler", whole, where=schedules, base=schedules.LRScheduler, short=short)
    schedule: optim.lr_scheduler.LRScheduler = _made(
        "scheduler", whole, lambda: kind(optimiser, **whole.options)
    )
    return schedule


def end_epoch(schedule: Schedule | None, *, merit: float | None) -> None:
    """Set the next epoch's learning rate; merit: how good the model is, for `plateau`."""
    if isinstance(schedule, optim.lr_scheduler.ReduceLROnPlateau):
        if merit is not None:
            schedule.step(merit)
    elif schedule is not None:
        schedule.step()


def _class_of(
    field: str, named: NamedOptions, *, where: Any, base: type, short: Iterable[str] = ()
) -> Callable[..., Any]:
    """The class of this name, whatever its case."""
    kinds = {
        name.lower(): kind
        for name, kind in vars(where).items()
        if isinstance(kind, type) and issubclass(kind, base) and not name.startswith("_")
    }
    kind = kinds.get(named.name.lower())
    if kind is None or kind is base:
        names = sorted({each.__name__ for each in kinds.values() if each is not base})
        allowed = ", ".join([*short, *names])
        raise ConfigError.for_field(field, value=named.name, allowed=allowed)
    return kind


def _made(field: str, named: NamedOptions, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ConfigError(
            f"{field} = {str(named)!r} cannot be made: {error}",
            remedy=f"write {field.replace('_', '-')} as NAME:option=value,option=value with options"
            " of that class in torch.optim",
        ) from None


# -- steps that went wrong --------------------------------------------------------------------


@dataclass(frozen=True)
class LossProblem:
    """A loss that is NaN, infinite or has exploded, and what becomes of the step; for people."""

    loss: str
    action: str


class LossWatch:
    """Finds losses that are NaN, infinite or have exploded, and unusable gradients.

    A rank that has such a loss spoils its gradients on purpose. So the gradients that all ranks
    share after the all-reduce are unusable on all of them, and all decide alike without a call.
    """

    def __init__(self, on_nan: OnNan) -> None:
        self._on_nan = on_nan
        self._limit: float | None = None
        self._is_told = False

    def look(self, loss: Tensor) -> tuple[Tensor, LossProblem | None]:
        """The loss to go backwards from, and what is wrong with it, the first time it is."""
        value = float(loss.detach())
        problem = None
        if math.isfinite(value):
            self._limit = self._limit or _EXPLODED * max(1.0, abs(value))
            if abs(value) > self._limit:
                text = f"{value:.3g}, far above the first one"
                problem = LossProblem(text, _ACTIONS["continue"])
        else:
            problem = LossProblem(str(value), _ACTIONS[self._on_nan])
            loss = loss if self._on_nan == "continue" else loss * math.nan
        if problem is not None and self._is_told:
            problem = None
        self._is_told = self._is_told or problem is not None
        return loss, problem

    def takes(self, model: nn.Module, *, loss: Tensor, where: str) -> bool:
        """Whether the step is made, from the gradients that all ranks share.

        Raises RunError where a run is to stop.
        """
        if self._on_nan == "continue" or _are_finite(model):
            return True
        if self._on_nan == "skip":
            return False
        value = float(loss.detach())
        if math.isfinite(value):
            raise RunError(
                f"the gradients of another rank are NaN or infinite {where} (this rank's loss is"
                f" {value:.3g}), or those of this rank overflowed",
                remedy=_REMEDY,
            )
        raise RunError(f"the loss is {value} {where}", remedy=_REMEDY)


_REMEDY = (
    "lower --lr, and look for NaN and huge values in the features; --on-nan skip leaves such steps"
    " out, --on-nan continue ignores them"
)


def _are_finite(model: nn.Module) -> bool:
    sums = [each.grad.sum() for each in model.parameters() if each.grad is not None]
    return not sums or math.isfinite(float(torch.stack(sums).sum()))


# -- early stop -------------------------------------------------------------------------------


class EarlyStop:
    """Counts evaluations since the validation score was best."""

    def __init__(self, patience: int | None) -> None:
        """patience: evaluations without a better score that end the run; None: none do."""
        self._patience = patience
        self._best: float | None = None
        self._num_worse = 0

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on counting."""
        return {"best": self._best, "num_worse": self._num_worse}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from there."""
        self._best, self._num_worse = state["best"], state["num_worse"]

    def note(self, score: Score) -> bool:
        """Whether the run is to end after this evaluation."""
        value = score.merit
        if value is None and self._patience is not None:
            raise DataError(
                "early_stop needs a validation score, but no node is in the validation set",
                remedy="leave out --early-stop, or give the graph a val_mask that is not empty",
            )
        if value is None or math.isnan(value):
            self._num_worse += 1
        elif self._best is None or value > self._best:
            self._best, self._num_worse = value, 0
        else:
            self._num_worse += 1
        return self._patience is not None and self._num_worse >= self._patience
