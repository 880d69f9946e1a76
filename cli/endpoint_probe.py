"""Tries an endpoint out: which modes it knows, how long it takes, what it counts."""

from __future__ import annotations

import asyncio
import time
from typing import get_args

from rudder.agents.llm.consultation import planner_question
from rudder.agents.llm.errors import ChatError, EndpointError, TooSlowError
from rudder.agents.llm.messages import Chat, Mode, Question, TokensSource, Usage
from rudder.agents.llm.openai_chat import OpenAIChat
from rudder.agents.llm.prompts import Briefing
from rudder.agents.llm.proposals import stage
from rudder.memory.sample import sample_episode, sample_workload
from rudder.tools.estimate.history import History
from rudder.tools.estimate.whatif import WhatIf
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import FrozenExact

_MOST_CHARS_PER_TOKEN = 7
"""Of figures and terse English; most tokenizers have 3 to 4."""


class ModeReport(FrozenExact):
    """One mode over several questions; error: name of the last one, None if all were answered;
    remedy: what to do about it; words: what the server said, without secrets.

    latencies in milliseconds, one per question that the endpoint answered, usably or not.
    """

    mode: Mode
    asked: int
    usable: int
    error: str | None
    remedy: str | None = None
    words: str | None = None
    latencies_ms: tuple[float, ...]
    input_tokens: int | None
    output_tokens: int | None
    tokens_source: TokensSource

    @property
    def works(self) -> bool:
        """Whether every question was answered usably."""
        return self.asked == self.usable


class ProbeReport(FrozenExact):
    """All modes; warm_up_ms: the first question, which may have loaded the model;
    request_changes: how requests to this endpoint differ from the usual ones; least_tokens: of the
    prompt, whatever the tokens are."""

    model: str
    warm_up_ms: float | None
    modes: tuple[ModeReport, ...]
    request_changes: tuple[str, ...] = ()
    least_tokens: int = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the tokens that the server counted tell of it."""
        counted = {
            each.mode: each.input_tokens
            for each in self.modes
            if each.input_tokens is not None and each.tokens_source == "server"
        }
        tools, text = counted.get("tools"), counted.get("text")
        found = []
        if any(tokens < self.least_tokens for tokens in counted.values()):
            found.append(
                f"the server read fewer tokens than the prompt has (at least {self.least_tokens}):"
                " raise its context"
            )
        elif tools is not None and text is not None and tools < text:
            found.append("the model's chat template leaves tools out, so it never sees them")
        return tuple(found)

    @property
    def best(self) -> Mode | None:
        """The first mode that works, in the order in which a run tries them."""
        return next((each.mode for each in self.modes if each.works), None)


async def probe(
    chat: OpenAIChat, *, repeats: int = 2, deadline_s: float = 20.0, warm_up_s: float = 180.0
) -> ProbeReport:
    """Ask an invented planner's question in each mode; deadline_s: for each question, warm_up_s:
    for the first one, whose answer does not count."""
    toolbox, question = _example()
    warm_up_ms, error = await _warm_up(chat, question, warm_up_s)
    if error is not None and error.name == TooSlowError.__name__:
        repeats = 1
    reports = [
        await _try(chat, question, toolbox, mode=mode, repeats=repeats, deadline_s=deadline_s)
        for mode in get_args(Mode)
    ]
    return ProbeReport(
        model=chat.model,
        warm_up_ms=warm_up_ms,
        modes=tuple(reports),
        request_changes=chat.request_changes,
        least_tokens=sum(len(text) for _, text in question.texts("tools")) // _MOST_CHARS_PER_TOKEN,
    )


async def _warm_up(
    chat: Chat, question: Question, deadline_s: float
) -> tuple[float | None, ChatError | None]:
    began = time.monotonic()
    try:
        async with asyncio.timeout(deadline_s):
            await chat.complete(question, mode="text")
    except TimeoutError:
        return None, TooSlowError("no answer")
    except ChatError as error:
        return None, error
    return 1000 * (time.monotonic() - began), None


async def _try(
    chat: Chat,
    question: Question,
    toolbox: Toolbox,
    *,
    mode: Mode,
    repeats: int,
    deadline_s: float,
) -> ModeReport:
    usable, latencies = 0, []
    last: ChatError | None = None
    usage: Usage | None = None
    for number in range(repeats):
        began = time.monotonic()
        try:
            async with asyncio.timeout(deadline_s):
                reply = await chat.complete(question, mode=mode)
            latencies.append(1000 * (time.monotonic() - began))
            usage = reply.usage
            stage(reply, toolbox, call_id=f"probe-{number}")
            usable += 1
        except TimeoutError:
            last = TooSlowError("no answer")
        except ChatError as error:
            last = error
    return ModeReport(
        mode=mode,
        asked=repeats,
        usable=usable,
        error=last.name if last else None,
        remedy=last.remedy if last else None,
        words=last.words if isinstance(last, EndpointError) else None,
        latencies_ms=tuple(latencies),
        input_tokens=usage.input_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        tokens_source=usage.source if usage else "missing",
    )


def _example() -> tuple[Toolbox, Question]:
    """A question as a real run asks it, about the run that is made up as a sample."""
    workload = sample_workload()
    history, limits = History(workload), Limits.of(workload, memory_budget_bytes=None)
    toolbox = Toolbox(history, limits, WhatIf(history), lambda limit: ())
    observation = sample_episode(0, workload=workload).observation
    return toolbox, planner_question(Briefing(observation, limits, "time"))
