"""What all option classes of loaders share: frozen, and a bad value is a ConfigError."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ValidationError, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler

from rudder.training.errors import ConfigError
from rudder.training.settings import Frozen


class Options(Frozen, extra="forbid"):
    """Options that a script passes by name, each with a default.

    Raises ConfigError that names the class, the field, the value and what is allowed.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            raise as_config_error(error, cls, owner=f"{cls.__name__}.") from None


def as_config_error(
    error: ValidationError, model: type[BaseModel], *, owner: str = "--", source: str = ""
) -> ConfigError:
    """The first problem of a value as ConfigError.

    model: has the fields; owner: what stands before a field's name where it is set, `--` for an
    option of a command; source: where the value is from.
    """
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    option = f"--{name.replace('_', '-')}" if owner == "--" else f"{owner}{name}"
    shown = name if owner == "--" else option
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields)
        return ConfigError(f"{shown} is not a setting{source}", remedy=f"use one of: {known}")
    if not name:
        return ConfigError(f"{reason}{source}", remedy="change one of the two")
    return ConfigError(
        f"{shown} = {first['input']!r} is not allowed: {reason}{source}",
        remedy=f"set {option} within that range",
    )
