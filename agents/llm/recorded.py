"""A chat that gives stored answers and opens no socket."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from rudder.agents.llm import errors
from rudder.agents.llm.errors import ChatError, EndpointError, InvalidAnswerError, NotRecordedError
from rudder.agents.llm.exchange import Came, Exchange, digest
from rudder.agents.llm.messages import Mode, Question, Reply

_INVALID = "InvalidAnswerError."


class RecordedChat:
    """Answers questions as a past run's model did, or as it did in one decision.

    A question that was asked several times gets its answers in their order; one that was not
    asked raises NotRecordedError, as a question that the breaker or the budget forbade then.
    """

    def __init__(self, exchanges: Sequence[Exchange]) -> None:
        self._exchanges = exchanges
        self._answers: dict[str, deque[Came]] = defaultdict(deque)
        for each in exchanges:
            self._answers[digest(each.asked.question, each.asked.mode)].append(each.came)

    @property
    def model(self) -> str:
        """The model that answered then."""
        return self._exchanges[0].model if self._exchanges else "none"

    @property
    def mode(self) -> Mode | None:
        """The mode that was known at the first question; None if it was being found out."""
        first = self._exchanges[0].asked if self._exchanges else None
        return None if first is None or first.is_trial else first.mode

    async def complete(self, question: Question, *, mode: Mode) -> Reply:
        """The stored answer; raises the stored error again, or NotRecordedError."""
        answers = self._answers.get(digest(question, mode))
        if not answers:
            raise NotRecordedError("the recorded run did not ask this")
        came = answers.popleft()
        if came.reply is None:
            raise _error(came)
        return came.reply

    async def close(self) -> None:
        """Nothing is open."""


def _error(came: Came) -> ChatError:
    name = came.error or ""
    if name.startswith(_INVALID):
        # Stored by this class's own name, so the kind is one of the known ones.
        return InvalidAnswerError(name.removeprefix(_INVALID), came.reason or "")  # type: ignore[arg-type]
    kind = getattr(errors, name, EndpointError)
    message = "as recorded"
    return errors.RefusedError(message, status=0) if kind is errors.RefusedError else kind(message)
