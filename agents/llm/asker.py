"""Asks a model, in the background of decisions, within a deadline and a budget, and validates each
answer."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, get_args

from rudder.agents.llm.breaker import Breaker, Budget
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
from rudder.training.metrics import ModelUse

T = TypeVar("T")


class Moment(Protocol):
    """When a question is asked: all about one window share a deadline."""

    @property
    def window(self) -> int:
        """Its number."""

    @property
    def step(self) -> int:
        """For the record."""


@dataclass(frozen=True)
class AskTurn:
    """A question of no decision; window: its number."""

    window: int
    step: int = 0


ReplyReader = Callable[[Reply], T]

_MISSES_TO_DOUBT_A_MODE = 3
_MIN_TIME_LEFT_S = 0.01
_MAX_TRACE = 4000


class Background(Generic[T]):
    """At most one inquiry at a time, under way while decisions go on."""

    def __init__(self) -> None:
        self._task: asyncio.Task[T] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether an inquiry may begin: none is under way, and no answer waits to be taken."""
        return self._task is None

    @property
    def is_pending(self) -> bool:
        """Whether an inquiry is under way."""
        return self._task is not None and not self._task.done()

    @property
    def has_answer(self) -> bool:
        """Whether an answer, or a failure, waits to be taken."""
        return self._task is not None and self._task.done()

    def begin(self, inquiry: Coroutine[Any, Any, T]) -> None:
        """Start it; nobody waits for it."""
        assert self.is_idle
        self._task = asyncio.get_running_loop().create_task(inquiry)

    def take(self) -> T | None:
        """The answer, once; None if there is none yet, or the model gave none. Raises what no
        endpoint is to blame for."""
        if not self.has_answer:
            return None
        assert self._task is not None
        task, self._task = self._task, None
        with contextlib.suppress(ChatError):
            return task.result()
        return None

    async def settled(self) -> None:
        """Wait for the inquiry under way, if there is one."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def cancel(self) -> None:
        """Give the inquiry under way up, and what has come of it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None


class Asker:
    """One job's way to its model, shared by all roles that ask one.

    All questions about one observation share one deadline. An answer that cannot be used is asked
    for once more, with the reason. The mode is found by use: until one has brought a usable answer,
    the next mode is tried instead of asking again, with a deadline of its own.
    """

    def __init__(
        self,
        chat: Chat,
        *,
        breaker: Breaker,
        budget: Budget,
        deadline_s: float,
        on_exchange: Callable[[Exchange], None],
    ) -> None:
        self._chat, self._breaker, self._budget = chat, breaker, budget
        self._deadline_s, self._on_exchange = deadline_s, on_exchange
        self.background: Background[Any] = Background()
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

    @property
    def has_asked(self) -> bool:
        """Whether any question was put to it."""
        return self._budget.num_calls > 0

    def report(self) -> ModelUse:
        """Counts of questions, answers and tokens until now."""
        return self._tally.report(model=self.model, mode=self._mode)

    def drop_stale(self) -> None:
        """Count a usable answer that came when its regime had ended."""
        self._tally.stale += 1

    async def close(self) -> None:
        """Give up what is under way, and let go of connections."""
        await self.background.cancel()
        await self._chat.close()

    async def ask(self, question: Question, read: ReplyReader[T], *, seen: Moment) -> T:
        """A usable answer, as `read` makes it of a reply; raises ChatError within the deadline.
        `read` raises InvalidAnswerError where it cannot; seen: when."""
        try:
            value, attempt = await self._ask_once(question, read, seen)
        except ChatError as error:
            self._tally.fell_back(error)
            raise
        self._tally.answered(attempt=attempt)
        return value

    async def _ask_once(
        self, question: Question, read: ReplyReader[T], seen: Moment
    ) -> tuple[T, int]:
        if self._breaker.pause_left_s > 0:
            raise NotAskedError("the endpoint failed too often and is left alone for now")
        self._set_deadline(seen.window)
        try:
            answered = await self._find(question, read, seen)
        except NotAskedError:
            raise
        except ChatError as error:
            pause_s = error.retry_after_s if isinstance(error, RateLimitedError) else None
            self._breaker.failed(pause_s=pause_s or 0.0)
            self._doubt_the_mode(error)
            raise
        self._breaker.succeeded()
        return answered

    def _set_deadline(self, window: int) -> None:
        now = _now()
        if window != self._window:
            self._window, self._due = window, now + self._deadline_s
        elif self._due - now < _MIN_TIME_LEFT_S:
            raise NotAskedError("the time for all questions is used up")

    async def _find(self, question: Question, read: ReplyReader[T], seen: Moment) -> tuple[T, int]:
        if self._mode is None:
            return await self._try_modes(question, read, seen), 1
        try:
            return await self._call(question, read, seen, mode=self._mode), 1
        except InvalidAnswerError as error:
            again = question.model_copy(update={"complaint": error.reason})
            return await self._call(again, read, seen, mode=self._mode, attempt=2), 2

    async def _try_modes(self, question: Question, read: ReplyReader[T], seen: Moment) -> T:
        self._untried = self._untried or list(get_args(Mode))
        while True:
            mode = self._untried[0]
            try:
                value = await self._call(question, read, seen, mode=mode)
            except (InvalidAnswerError, RefusedError, ServerFailedError, TooSlowError) as error:
                self._untried.pop(0)
                if not self._untried:
                    raise
                if isinstance(error, TooSlowError):
                    self._due = _now() + self._deadline_s
            else:
                self._mode, self._untried, self._num_misses = mode, [], 0
                return value

    def _doubt_the_mode(self, error: ChatError) -> None:
        """A slow answer says nothing of the mode that works."""
        self._num_misses += not isinstance(error, TooSlowError)
        if self._num_misses >= _MISSES_TO_DOUBT_A_MODE:
            self._mode, self._num_misses = self._chat.mode, 0

    async def _call(
        self, question: Question, read: ReplyReader[T], seen: Moment, *, mode: Mode,
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
        began = _now()
        reply: Reply | None = None
        failure: BaseException | None = None
        try:
            async with asyncio.timeout_at(self._due):
                reply = await self._chat.complete(question, mode=mode)
            value = read(reply)
            self._num_misses = 0
        except TimeoutError:
            failure = TooSlowError("no usable answer before the deadline")
            raise failure from None
        except BaseException as caught:
            failure = caught
            raise
        finally:
            self._budget.spend_tokens(reply.usage.total if reply else tokens)
            self._keep(asked, _came(reply, failure), step=seen.step, began=began)
        return value

    def _keep(self, asked: Asked, came: Came, *, step: int, began: float) -> None:
        exchange = Exchange(
            asked=asked,
            came=came,
            model=self.model,
            step=step,
            latency_ms=1000.0 * (_now() - began),
        )
        self._tally.add(exchange)
        self._on_exchange(exchange)


def _now() -> float:
    """Seconds of the event loop's clock, which a simulation may turn."""
    return asyncio.get_running_loop().time()


def _came(reply: Reply | None, failure: BaseException | None) -> Came:
    """reason: what was wrong with the answer, or the server's own words; of an exception that
    nobody expected, which is our own fault, the traceback."""
    if failure is None:
        return Came(reply=reply, error=None, reason=None)
    if isinstance(failure, asyncio.CancelledError):
        return Came(reply=None, error="TooSlowError", reason="the run ended before the answer")
    if not isinstance(failure, ChatError):
        trace = "".join(traceback.format_exception(failure))[-_MAX_TRACE:]
        return Came(reply=reply, error=type(failure).__name__, reason=trace)
    reason = getattr(failure, "words", "") or getattr(failure, "reason", None)
    return Came(reply=reply, error=failure.name, reason=reason)
