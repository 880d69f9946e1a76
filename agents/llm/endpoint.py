"""Where a language model is and how it is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from rudder.training.errors import ConfigError
from rudder.training.steering_options import SteeringOptions

KEY_VARIABLE = "RUDDER_LLM_KEY"
KEY_FILE_VARIABLE = "RUDDER_LLM_KEY_FILE"
"""Path of a file that holds the key, as secrets are handed to containers and jobs."""
_KEY_VARIABLES = (KEY_VARIABLE, KEY_FILE_VARIABLE)
NO_KEY = "not-needed"
"""Sent where no key is set: servers at home need none, but the client insists on one."""


class Endpoint(BaseModel):
    """One OpenAI-compatible endpoint.

    url: up to and with `/v1`; answer_tokens: most that an answer may have, reasoning included;
    temperature: None leaves it to the endpoint; is_openai: OpenAI's own, which refuses what the
    others need; key_from: the variable that the key is from, None where there is no key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    url: str
    model: str
    key: SecretStr = SecretStr(NO_KEY)
    deadline_s: Annotated[float, Field(gt=0)] = 20.0
    answer_tokens: Annotated[int, Field(ge=16, le=32_768)] = 1024
    temperature: float | None = 0.0
    is_openai: bool = False
    key_from: str | None = None

    @classmethod
    def of(
        cls,
        url: str,
        *,
        model: str,
        deadline_s: float = 20.0,
        environment: Mapping[str, str] = os.environ,
    ) -> Endpoint:
        """Check the address, and take the key from RUDDER_LLM_KEY, or from the file that
        RUDDER_LLM_KEY_FILE names.

        No other variable counts: a key for one endpoint must not go to another.
        Raises ConfigError for an address or a key that cannot be one.
        """
        host = _host(url)
        if not model:
            raise ConfigError(
                "the language model has no name",
                remedy="name it as its server does: --model NAME (rudder train: --llm-model NAME)",
            )
        origin = next((name for name in _KEY_VARIABLES if environment.get(name)), None)
        key = NO_KEY if origin is None else _key(origin, environment[origin])
        is_openai = host == "openai.com" or host.endswith(".openai.com")
        return cls(
            url=url,
            model=model,
            key=SecretStr(key),
            key_from=origin,
            deadline_s=deadline_s,
            temperature=None if is_openai else 0.0,
            is_openai=is_openai,
        )


def check_endpoint(options: SteeringOptions | None) -> None:
    """Before a run starts: that address and key of the model can be ones; raises ConfigError."""
    if options is not None and options.llm_url is not None:
        Endpoint.of(options.llm_url, model=options.llm_model or "")


def _key(origin: str, key: str) -> str:
    """Raises ConfigError for what no HTTP header can hold, and says nothing of its content."""
    if origin == KEY_FILE_VARIABLE:
        try:
            key = Path(key).read_text().strip()
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"the file that {origin} names cannot be read: {type(error).__name__}",
                remedy=f"let {origin} name a file with the key alone, or unset it",
            ) from None
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"{origin} holds no key: it is empty, or has line breaks or signs beyond ASCII",
            remedy=f"set {origin} anew, or unset it where no key is needed",
        )
    return key


def _host(url: str) -> str:
    allowed = "an address such as http://localhost:8000/v1"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, 0
    if not host or port == 0 or parts.scheme not in ("http", "https"):
        raise ConfigError.for_field("llm", value=parts.scheme or "no scheme", allowed=allowed)
    if parts.username or parts.password or parts.query:
        raise ConfigError(
            "llm: the address holds a user name, a password or a query",
            remedy=f"give the address alone, and the key in {KEY_VARIABLE}",
        )
    return host
