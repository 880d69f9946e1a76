"""Where a language model is and how it is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from rudder.training.errors import ConfigError

KEY_VARIABLE = "RUDDER_LLM_KEY"
NO_KEY = "not-needed"
"""Sent where no key is set: servers at home need none, but the client insists on one."""


class Endpoint(BaseModel):
    """One OpenAI-compatible endpoint.

    url: up to and with `/v1`; answer_tokens: most that an answer may have, reasoning included;
    temperature: None leaves it to the endpoint; is_openai: OpenAI's own, which refuses what the
    others need.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    url: str
    model: str
    key: SecretStr = SecretStr(NO_KEY)
    deadline_s: Annotated[float, Field(gt=0)] = 20.0
    answer_tokens: Annotated[int, Field(ge=16, le=32_768)] = 1024
    temperature: float | None = 0.0
    is_openai: bool = False

    @classmethod
    def of(
        cls,
        url: str,
        *,
        model: str,
        deadline_s: float = 20.0,
        key: SecretStr | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Endpoint:
        """Check the address, and take the key from RUDDER_LLM_KEY unless one is given.

        No other variable counts: a key for one endpoint must not go to another.
        Raises ConfigError for an address that cannot be one.
        """
        host = _host(url)
        if not model:
            raise ConfigError.for_field("model", value=model, allowed="the model's name")
        key = key or SecretStr(environment.get(KEY_VARIABLE) or NO_KEY)
        is_openai = host == "openai.com" or host.endswith(".openai.com")
        return cls(
            url=url,
            model=model,
            key=key,
            deadline_s=deadline_s,
            temperature=None if is_openai else 0.0,
            is_openai=is_openai,
        )


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
