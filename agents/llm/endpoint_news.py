"""An endpoint at fault, told to people while the run goes on: what fails, and what to do."""

from __future__ import annotations

from rudder.agents.llm.errors import (
    EndpointError,
    RateLimitedError,
    RefusedError,
    ServerFailedError,
    TooSlowError,
    UnreachableError,
)

_WORDS: dict[type[EndpointError], str] = {
    UnreachableError: "cannot be reached",
    TooSlowError: "answers too late",
    RateLimitedError: "asks for fewer questions (429)",
    RefusedError: "refuses the key, the model's name or the request",
    ServerFailedError: "fails (5xx)",
}


def endpoint_line(error: str) -> str | None:
    """A line for the name of an error; None for one that is not the endpoint's fault."""
    for kind, words in _WORDS.items():
        if kind.__name__ == error:
            return f"the model's endpoint {words}; the embedded agents decide meanwhile: " + (
                kind.default_remedy
            )
    return None
