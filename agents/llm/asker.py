"""Asks a model within a decision's deadline and budget, and validates each answer."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

from rudder.agents.llm.breaker import Breaker, Budget, Stagger
from rudder.agents.llm.errors import (
    ChatError,
    InvalidAnswerError,
    NotAskedError,
    RateLimitedError,
    RefusedError,
    ServerFailedError,
    TooSlowError,
)
from rudder.agents.llm.exchange import Asked, Came, Exchange, Tally
from rudder.agents.llm.messages import Chat, Mode, Question, Reply
from rudder.memory.records import Observation
from rudder.training.metrics import ModelUse

T = TypeVar("T")
ReplyReader = Callable[[Reply], T]

_MODES: tuple[Mode, ...] = ("tools", "structured", "text")
_MISSES_TO_DOUBT_A_MODE = 3
_MIN_TIME_LEFT_S = 0.01
_MAX_TRACE = 4000


class Asker:
    """One trainer's way to its model, shared by all roles that ask one.

    All questions about one window share one deadline. An answer that cannot be used is asked for
    once more, with the reason. The mode is found by use: until one has brought a usable answer,
    the next mode is tried instead of asking again.
    """

    def __init__(
        self,
        chat: Chat,
        *,
        breaker: Breaker,
        budget: Budget,
        stagger: Stagger,
        deadline_s: float,
        on_exchange: Callable[[Exchange], None],
    ) -> None:
        self._chat, self._breaker, self._budget, self._stagger = chat, breaker, budget, stagger
        self._deadline_s, self._on_exchange = deadline_s, on_exchange
        self._mode: Mode | None = chat.mode
        self._untried: list[Mode] = []
        self._num_misses = 0
        self._tally = Tally()
        self._window: int | None = None
        self._due = 0.0

    @property
    def model(self) -> str:
        """The model's name."""
        return self._chat.model

    def report(self) -> ModelUse:
        """Counts of questions, answers and tokens until now."""
        return self._tally.report(model=self.model, mode=self._mode)

    async def close(self) -> None:
        """Let go of connections."""
        await self._chat.close()

    async def ask(self, question: Question, read: ReplyReader[T], *, seen: Observation) -> T:
        """A usable answer, as `read` makes it of a reply; raises ChatError within the decision's
        deadline. `read` raises InvalidAnswerError where it cannot; seen: what is decided on."""
        try:
            if self._breaker.pause_left_s > 0:
                raise NotAskedError("the endpoint failed too often and is left alone for now")
            value, attempt = await self._ask_once(question, read, seen)
        except ChatError as error:
            self._tally.fell_back(error)
            raise
        self._tally.answered(attempt=attempt)
        return value

    async def _ask_once(
        self, question: Question, read: ReplyReader[T], seen: Observation
    ) -> tuple[T, int]:
        try:
            async with asyncio.timeout_at(await self._deadline(seen.window)):
                answered = await self._find(question, read, seen)
            self._breaker.succeeded()
            return answered
        except TimeoutError:
            self._breaker.failed()
            raise TooSlowError("no usable answer before the decision's deadline") from None
        except NotAskedError:
            raise
        except ChatError as error:
            pause_s = error.retry_after_s if isinstance(error, RateLimitedError) else None
            self._breaker.failed(pause_s=pause_s or 0.0)
            self._doubt_the_mode()
            raise

    async def _deadline(self, window: int) -> float:
        now = asyncio.get_running_loop().time()
        if window != self._window:
            self._window, self._due = window, now + self._deadline_s
            await asyncio.sleep(self._stagger.delay_s())
        elif self._due - now < _MIN_TIME_LEFT_S:
            raise NotAskedError("the decision's time is used up")
        return self._due

    async def _find(
        self, question: Question, read: ReplyReader[T], seen: Observation
    ) -> tuple[T, int]:
        if self._mode is None:
            return await self._try_modes(question, read, seen), 1
        try:
            return await self._call(question, read, seen, mode=self._mode), 1
        except InvalidAnswerError as error:
            again = question.model_copy(update={"complaint": error.reason})
            return await self._call(again, read, seen, mode=self._mode, attempt=2), 2

    async def _try_modes(self, question: Question, read: ReplyReader[T], seen: Observation) -> T:
        self._untried = self._untried or list(_MODES)
        while True:
            mode = self._untried[0]
            try:
                value = await self._call(question, read, seen, mode=mode)
            except (InvalidAnswerError, RefusedError, ServerFailedError):
                self._untried.pop(0)
                if not self._untried:
                    raise
            else:
                self._mode, self._untried, self._num_misses = mode, [], 0
                return value

    def _doubt_the_mode(self) -> None:
        self._num_misses += 1
        if self._num_misses >= _MISSES_TO_DOUBT_A_MODE:
            self._mode, self._num_misses = self._chat.mode, 0

    async def _call(
        self, question: Question, read: ReplyReader[T], seen: Observation, *, mode: Mode,
        attempt: int = 1,
    ) -> T:  # fmt: skip
        tokens = question.estimated_tokens(mode)
        if not self._budget.allows(tokens=tokens):
            raise NotAskedError("the run's budget of calls or tokens is used up")
        self._budget.spend_call()
        asked = Asked(
            question=question,
            mode=mode,
            attempt=attempt,
            is_trial=self._mode is None,
            window=seen.window,
        )
        began = time.monotonic()
        reply: Reply | None = None
        failure: Exception | None = TooSlowError("given up")
        try:
            reply = await self._chat.complete(question, mode=mode)
            value = read(reply)
            failure = None
            self._num_misses = 0
        except Exception as caught:
            failure = caught
            raise
        finally:
            self._budget.spend_tokens(reply.usage.total if reply else tokens)
            self._keep(asked, _came(reply, failure), step=seen.step, began=began)
        return value

    def _keep(self, asked: Asked, came: Came, *, step: int, began: float) -> None:
        latency_ms = 1000.0 * (time.monotonic() - began)
        exchange = Exchange(
            asked=asked, came=came, model=self.model, step=step, latency_ms=latency_ms
        )
        self._tally.add(exchange)
        self._on_exchange(exchange)


def _came(reply: Reply | None, failure: Exception | None) -> Came:
    """reason: what was wrong with the answer, or the server's own words; of an exception that
    nobody expected, which is our own fault, the traceback."""
    if failure is None:
        return Came(reply=reply, error=None, reason=None)
    if not isinstance(failure, ChatError):
        trace = "".join(traceback.format_exception(failure))[-_MAX_TRACE:]
        return Came(reply=reply, error=type(failure).__name__, reason=trace)
    reason = getattr(failure, "words", "") or getattr(failure, "reason", None)
    return Came(reply=reply, error=failure.name, reason=reason)
