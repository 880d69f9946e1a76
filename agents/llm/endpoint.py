"""Where a language model is and how it is asked."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr

from rudder.agents.llm.messages import JsonObject
from rudder.training.errors import ConfigError
from rudder.training.settings import FrozenExact
from rudder.training.steering_options import (
    DEFAULT_ANSWER_TOKENS,
    KEY_FILE_VARIABLE,
    KEY_VARIABLE,
    SteeringOptions,
)

_KEY_VARIABLES = (KEY_VARIABLE, KEY_FILE_VARIABLE)
NO_KEY = "not-needed"
"""Sent if no key is set: local servers need none, but some insist on a header."""
_OWN_FIELDS = frozenset({"messages", "model", "n", "response_format", "stream", "tools"})
_SECRET_NAME = re.compile(r"(?i)key|token|secret|sig|pass|auth|code|credential")
"""Names of parameters in an address that hold secrets; addresses are shown and recorded."""


class Endpoint(FrozenExact):
    """One OpenAI-compatible endpoint.

    url: up to and with `/v1`, with a query if it needs one; answer_tokens: most that an answer may
    have, reasoning included; extra: further fields of each request; key_from: the variable that
    the key is from, None if there is no key.
    """

    url: str
    model: str
    key: SecretStr = SecretStr(NO_KEY)
    answer_tokens: Annotated[int, Field(ge=16, le=32_768)] = DEFAULT_ANSWER_TOKENS
    extra: JsonObject = Field(default_factory=dict)
    key_from: str | None = None

    @property
    def base_url(self) -> str:
        """The address without its query."""
        return urlsplit(self.url)._replace(query="").geturl()

    @property
    def query(self) -> dict[str, str]:
        """The query that each request's address has."""
        return dict(parse_qsl(urlsplit(self.url).query))

    @property
    def is_azure(self) -> bool:
        """Whether the key goes into a header of Azure's own."""
        return "api-version" in self.query

    @classmethod
    def of(
        cls,
        url: str,
        *,
        model: str,
        answer_tokens: int = DEFAULT_ANSWER_TOKENS,
        extra: str | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Endpoint:
        """Check the address, and take the key from RUDDER_LLM_KEY, or from the file that
        RUDDER_LLM_KEY_FILE names.

        extra: a JSON object. No other variable counts: a key for one endpoint must not go to
        another. Raises ConfigError for an address, a key or an object that is none.
        """
        _check_address(url)
        if not model:
            raise ConfigError(
                "the language model has no name",
                remedy="name it as its server does: --model NAME (rudder train: --llm-model NAME)",
            )
        origin = next((name for name in _KEY_VARIABLES if environment.get(name)), None)
        key = NO_KEY if origin is None else _key(origin, environment[origin])
        return cls(
            url=url,
            model=model,
            key=SecretStr(key),
            key_from=origin,
            answer_tokens=answer_tokens,
            extra=_fields(extra),
        )


def endpoint_of(options: SteeringOptions) -> Endpoint:
    """The endpoint that the options name, with the key from the environment.

    Raises ConfigError if address or model is missing or wrong.
    """
    if options.llm_url is None:
        raise ConfigError(
            "llm: an LLM planner needs an address and a model",
            remedy="give both: --llm http://localhost:11434/v1 --llm-model NAME",
        )
    return Endpoint.of(
        options.llm_url,
        model=options.llm_model or "",
        answer_tokens=options.llm_answer_tokens,
        extra=options.llm_extra,
    )


def _fields(extra: str | None) -> JsonObject:
    try:
        found = json.loads(extra or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not _OWN_FIELDS.isdisjoint(found):
        own = ", ".join(sorted(_OWN_FIELDS))
        raise ConfigError(
            "llm_extra is no JSON object of further fields",
            remedy=f"""give one such as '{{"reasoning_effort": "low"}}', without {own}""",
        )
    return found


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
            remedy=f"set {origin} again, or unset it where no key is needed",
        )
    return key


def _check_address(url: str) -> None:
    allowed = "an address such as http://localhost:8000/v1"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, 0
    if not host or port == 0 or parts.scheme not in ("http", "https"):
        raise ConfigError.for_field("llm", value=parts.scheme or "no scheme", allowed=allowed)
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if parts.username or parts.password or any(_SECRET_NAME.search(name) for name in names):
        raise ConfigError(
            "llm: the address holds a user name, a password or a key",
            remedy=f"give the address alone, and the key in {KEY_VARIABLE}",
        )
