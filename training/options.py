"""What all option classes of loaders share: frozen, and a bad value is a ConfigError."""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import BaseModel, ValidationError, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler

from rudder.training.errors import ConfigError, shown
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


_BINARY_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
BYTES = re.compile(r"^(\d+(?:\.\d+)?)\s*([kmgt]?)i?b$", re.IGNORECASE)
"""How bytes are written with a unit."""
_MAX_BYTES = 2**63


def parse_bytes(text: str) -> int:
    """Read `64MiB`, `2gb` or `5000`; raises ValueError that says how bytes are written."""
    if text.strip().isdecimal() and len(text) < len(str(_MAX_BYTES)):
        return int(text)
    match = BYTES.match(text.strip())
    if match is None:
        raise ValueError(f"{shown(text)} is no number of bytes; write 64MiB, 2GiB or 5000")
    number = float(match.group(1)) * _BINARY_UNITS[match.group(2).lower()]
    if number >= _MAX_BYTES:
        raise ValueError(f"{shown(text)} is more bytes than any machine has")
    return int(number)


_RATE = re.compile(r"^(\d{1,9}(?:\.\d{1,9})?)([kmg])bit$", re.ASCII)
_KILOBITS = {"k": 1, "m": 10**3, "g": 10**6}
_MAX_KILOBITS = 10**9


def kilobits_of(rate: str) -> float:
    """Kilobits a second of a link; raises ValueError that says how a rate is written."""
    match = _RATE.match(rate)
    kilobits = float(match[1]) * _KILOBITS[match[2]] if match else 0.0
    if not 1 <= kilobits <= _MAX_KILOBITS:
        raise ValueError("a rate is a number and a unit, 1kbit to 1000gbit: 200mbit, 1gbit")
    return kilobits
