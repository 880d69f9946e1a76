"""Why a question to a model got no usable answer. Messages never quote an answer.

ChatError                   no usable answer; the embedded agent takes over
├── NotAskedError           the circuit breaker, the budget or the clock forbade asking
├── EndpointError           the endpoint is at fault
│   ├── UnreachableError    refused, reset, or not speaking HTTP
│   ├── TooSlowError        no answer before the decision's deadline
│   ├── RateLimitedError    429; `retry_after_s` where the endpoint named a pause
│   ├── RefusedError        another 3xx or 4xx: key, model name or request not accepted
│   └── ServerFailedError   5xx
└── InvalidAnswerError      an answer came and breaks a rule; `kind` and `reason` say which

No message holds a text that came from the endpoint: it could carry a secret or an instruction. The
server's own words stand apart in `EndpointError.words`, with secrets removed, for people only.
"""

from __future__ import annotations

from typing import Literal

from rudder.training.errors import RudderError

InvalidKind = Literal[
    "encoding", "size", "envelope", "empty", "json", "duplicate_key", "number",
    "schema", "unknown_tool", "number_of_calls", "limits", "cut",
]  # fmt: skip


class ChatError(RudderError):
    """A question got no usable answer."""

    exit_code = 5
    default_remedy = "run `rudder doctor --llm`; the embedded agents go on meanwhile"

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy or self.default_remedy)

    @property
    def name(self) -> str:
        """The kind of error, for the record."""
        return type(self).__name__


class NotAskedError(ChatError):
    """The model was not asked at all."""

    default_remedy = "nothing to do: the model is asked again when its pause or budget allows"


class EndpointError(ChatError):
    """The endpoint is at fault, not the answer. words: the server's own, redacted; no model sees
    them. fault: what it does, for people."""

    fault = "is at fault"

    def __init__(self, message: str, *, remedy: str | None = None, words: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.words = words


class UnreachableError(EndpointError):
    """Refused, reset, or no HTTP."""

    fault = "cannot be reached"
    default_remedy = "check that the server runs and that --llm has its address, ending in /v1"


class TooSlowError(EndpointError):
    """No answer before the deadline."""

    fault = "answers too late"
    default_remedy = "use a smaller model, or raise --llm-deadline"


class RateLimitedError(EndpointError):
    """The endpoint asks for fewer questions."""

    fault = "asks for fewer questions (429)"
    default_remedy = "lower --llm-max-calls, or give the endpoint to fewer trainers"

    def __init__(
        self, message: str, *, words: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, words=words)
        self.retry_after_s = retry_after_s


_REMEDIES = {
    401: "check the key: RUDDER_LLM_KEY, or the file that RUDDER_LLM_KEY_FILE names",
    403: "check what the key (RUDDER_LLM_KEY) is allowed to use",
    404: "check the model's name, and the address: it usually ends in /v1",
}


class RefusedError(EndpointError):
    """The endpoint accepts neither the key, nor the model's name, nor this kind of request."""

    fault = "refuses the key, the model's name or the request"
    default_remedy = (
        "check the key (RUDDER_LLM_KEY) and the model's name; `rudder doctor --llm` tells more"
    )

    def __init__(self, message: str, *, status: int, words: str = "") -> None:
        super().__init__(message, remedy=_REMEDIES.get(status), words=words)
        self.status = status


class ServerFailedError(EndpointError):
    """The endpoint failed."""

    fault = "fails (5xx)"
    default_remedy = "look at the server's log"


class InvalidAnswerError(ChatError):
    """An answer that breaks a rule. `reason` is ours and may be shown to the model."""

    default_remedy = (
        "use a model that follows schemas, or start its server with the flags that"
        " `rudder doctor --llm` prints"
    )

    def __init__(self, kind: InvalidKind, reason: str) -> None:
        super().__init__(f"the model's answer is not usable ({kind}): {reason}")
        self.kind: InvalidKind = kind
        self.reason = reason

    @property
    def name(self) -> str:
        """With what was wrong."""
        return f"InvalidAnswerError.{self.kind}"
