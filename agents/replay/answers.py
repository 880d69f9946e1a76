"""Models' stored answers, given when they came: windows that came meanwhile are known after."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rudder.agents.llm.asker import Asker
from rudder.agents.llm.breaker import Breaker
from rudder.agents.llm.budget import Budget, Spread
from rudder.agents.llm.errors import RefusedError
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.messages import Mode, Question, Reply
from rudder.agents.llm.recorded import RecordedChat
from rudder.agents.llm.team import ignore_exchange

_NO_LIMIT = 2**62
_DEADLINE_S = 3600.0


class PacedChat(RecordedChat):
    """The answers of one decision.

    While the run was still finding out which mode the endpoint knows, it may have given up some
    in an earlier decision: those are refused here.
    """

    def __init__(self, exchanges: Sequence[Exchange], *, on_answer: Callable[[str], None]) -> None:
        """on_answer: told the role whose question is answered."""
        super().__init__(exchanges)
        self._on_answer = on_answer
        self._asked_modes = {each.asked.mode for each in exchanges}

    async def complete(self, question: Question, *, mode: Mode) -> Reply:
        """The stored answer; raises as RecordedChat does."""
        if self.mode is None and mode not in self._asked_modes:
            raise RefusedError("given up before", status=0)
        try:
            return await super().complete(question, mode=mode)
        finally:
            self._on_answer(question.role)


def recorded_asker(exchanges: Sequence[Exchange], *, on_answer: Callable[[str], None]) -> Asker:
    """Asks the record: at once, and as often as the run did."""
    return Asker(
        PacedChat(exchanges, on_answer=on_answer),
        breaker=Breaker(lambda: 0.0),
        budget=Budget(max_calls=_NO_LIMIT, max_tokens=_NO_LIMIT),
        spread=Spread(rank=0, world_size=1, deadline_s=_DEADLINE_S),
        deadline_s=_DEADLINE_S,
        on_exchange=ignore_exchange,
    )
