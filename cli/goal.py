"""Goals in words: what `--goal "at most 2 GB, spare the network"` means as options of a run."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from pydantic import Field

from rudder.agents.llm.answers import TypedAnswer, clean, form_of, read_answer
from rudder.agents.llm.asker import AskTurn
from rudder.agents.llm.errors import ChatError, InvalidAnswerError
from rudder.agents.llm.messages import Question
from rudder.agents.team import asker_of, open_chat
from rudder.cli.show.progress import say
from rudder.training.config import parse_bytes
from rudder.training.errors import ConfigError
from rudder.training.steering_options import Objective, SteeringOptions

_DEADLINE_S = 60.0
_SYSTEM = """You read what a person wants of a training run, and express it in fields of `goal`.
The run has one objective and one memory budget per host, the same at all hours: wishes for certain
hours, and all else that no field expresses, go into left_out. Leave fields out that the words do
not name."""
_SPARE = r"(?:spare|save|reduce|relieve|minimi[sz]e|use (?:less|little)|least|less|little|low)"
_MOST = r"(?:at most|no more than|not more than|up to|within|under|below|max(?:imum)?(?: of)?)"
_PHRASES: dict[Objective, str] = {
    "time": r"(?:be |train )?(?:as )?(?:fast|fastest|quick|quickly)(?: as possible)?|save time"
    r"|(?:the )?(?:least|shortest) time",
    "traffic": rf"{_SPARE} (?:of )?(?:the )?(?:network|traffic|link|bandwidth)",
    "memory": rf"{_SPARE} (?:of )?(?:the )?(?:memory|ram)",
}
_BUDGET = re.compile(
    rf"(?:use )?{_MOST} (\d+(?:\.\d+)?\s*[kmgt]?i?b)"
    r"(?: (?:of )?(?:memory|ram))?(?: (?:per|a) host)?"
)
_SLOWER = re.compile(rf"(?:{_MOST} )?(\d+(?:\.\d+)?)\s*(?:%|percent) slower")
_HOURS = re.compile(
    r"\b(?:at night|overnight|by (?:day|night)|(?:in|during) the (?:day|night|morning|evening)"
    r"|(?:on|at) weekends?|(?:between|from) [\d:]+(?: ?[ap]m)? (?:and|to|until) [\d:]+(?: ?[ap]m)?"
    r"|(?:after|before|until|from) [\d:]+(?: ?[ap]m)?)(?![\w:])"
)
KNOWN = (
    "fast | spare the network (traffic, link) | spare memory | at most 2 GB | at most 2 % slower"
)
"""What the plain reader understands, with commas between phrases."""


@dataclass(frozen=True)
class Goal:
    """What words mean; None: they do not say; left_out: what no option can express."""

    objective: Objective | None = None
    memory_budget: str | None = None
    tolerance: float | None = None
    left_out: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The options of `rudder train` that it means."""
        named = {
            "objective": self.objective,
            "memory_budget": self.memory_budget,
            "tolerance": self.tolerance,
        }
        return {name: value for name, value in named.items() if value is not None}

    def lines(self) -> Iterator[str]:
        """For a person to confirm."""
        for name, value in self.options.items():
            yield f"  --{name.replace('_', '-')} {value}"
        for words in self.left_out:
            yield f"  left out: {words}"


def read_plain(text: str) -> Goal:
    """By plain rules; raises ConfigError for what they do not know, and for two objectives."""
    words = " ".join(text.lower().split())
    hours = _HOURS.findall(words)
    left_out = tuple(f"{each}: hours are not supported, a run has one goal" for each in hours)
    phrases = re.split(r"\s*(?:[,;]|\.(?=\s|$)|\band\b|\bbut\b)\s*", _HOURS.sub("", words))
    found: dict[str, Any] = {}
    for phrase in filter(None, map(str.strip, phrases)):
        name, value = _meaning(phrase)
        if found.setdefault(name, value) != value:
            raise ConfigError.for_field(
                "goal",
                value=text,
                allowed=f"one {name} for the whole run",
                remedy=f"leave one of {found[name]} and {value} out",
            )
    if not found:
        raise _not_understood(text)
    return Goal(**found, left_out=left_out)


def _meaning(phrase: str) -> tuple[str, Any]:
    for objective, pattern in _PHRASES.items():
        if re.fullmatch(pattern, phrase):
            return "objective", objective
    if found := _BUDGET.fullmatch(phrase):
        return "memory_budget", _bytes(found[1])
    if found := _SLOWER.fullmatch(phrase):
        return "tolerance", round(float(found[1]) / 100, 6)
    raise _not_understood(phrase)


def _bytes(text: str) -> str:
    """As the option takes it; raises ConfigError."""
    written = text.replace(" ", "").upper()
    try:
        parse_bytes(written)
    except ValueError as error:
        raise ConfigError(f"goal: {error}", remedy="name fewer bytes: at most 2 GB") from None
    return written


def _not_understood(text: str) -> ConfigError:
    return ConfigError.for_field(
        "goal",
        value=text,
        allowed=KNOWN,
        remedy="use these words with commas between them; or --llm URL --llm-model NAME, for a"
        " language model to read yours; or --objective, --memory-budget and --tolerance",
    )


def with_goal(options: Mapping[str, Any], *, yes: bool) -> dict[str, Any]:
    """The options of a run, with those that its goal means, once a person has confirmed them.

    yes: nobody is asked. Raises ConfigError where the goal is not understood, contradicts another
    option, or is not confirmed.
    """
    if (text := options.get("goal")) is None:
        return dict(options)
    goal = _read(text, options)
    for name in goal.options:
        if options.get(name) is not None:
            raise ConfigError(
                f"goal and {name} both say what to seek", remedy=f"leave out one of them: {name}"
            )
    say(f'goal "{text}" means:')
    for line in goal.lines():
        say(line)
    if not yes:
        _confirm(goal)
    return {**options, **goal.options}


def _confirm(goal: Goal) -> None:
    meant = " ".join(line.strip() for line in goal.lines() if line.strip().startswith("--"))
    if not sys.stdin.isatty():
        raise ConfigError(
            "a goal is to be confirmed, and there is no terminal",
            remedy=f"give --yes, or instead of the goal: {meant}",
        )
    if not typer.confirm("train so?", err=True):
        raise ConfigError("the goal was not confirmed", remedy="say it otherwise, or give options")


def _read(text: str, options: Mapping[str, Any]) -> Goal:
    """By the language model that the options name, if they do, else by plain rules."""
    if options.get("llm") is None or options.get("llm_model") is None:
        return read_plain(text)
    steering = SteeringOptions(
        planner="llm",
        llm_url=options["llm"],
        llm_model=options["llm_model"],
        llm_extra=options.get("llm_extra"),
        llm_deadline_s=options.get("llm_deadline") or _DEADLINE_S,
    )
    try:
        return asyncio.run(read_by_model(text, steering))
    except ChatError as error:
        say(f"the model did not read the goal: {error.message}; it is read by plain rules")
        return read_plain(text)


class GoalAnswer(TypedAnswer):
    """What the goal means. Leave out what it does not say."""

    objective: Annotated[
        Objective,
        Field(description="time: shortest step; traffic: fewest rows; memory: smallest buffer"),
    ] | None = None  # fmt: skip
    memory_budget_mib: Annotated[int, Field(ge=0, le=2**40, description="of a host")] | None = None
    slower_percent: Annotated[float, Field(ge=0, le=100, description="tolerated")] | None = None
    left_out: Annotated[
        str, Field(max_length=300, description="words of the goal that no field expresses, or none")
    ]

    @property
    def goal(self) -> Goal:
        """As options."""
        mib, percent = self.memory_budget_mib, self.slower_percent
        return Goal(
            objective=self.objective,
            memory_budget=None if mib is None else f"{mib}MiB",
            tolerance=None if percent is None else round(percent / 100, 6),
            left_out=tuple(filter(None, [clean(self.left_out)])),
        )


async def read_by_model(text: str, options: SteeringOptions) -> Goal:
    """The goal as a model reads it; raises ChatError where it gives no usable answer."""
    form = form_of(GoalAnswer, name="goal")
    question = Question.of("ask", form, system=_SYSTEM, user=f"GOAL: {text}")
    asker = asker_of(open_chat(options), options=options)
    try:
        answer = await asker.ask(
            question, lambda reply: read_answer(reply, GoalAnswer, name=form.name), seen=AskTurn(0)
        )
    finally:
        await asker.close()
    if not answer.goal.options:
        raise InvalidAnswerError("empty", "it finds nothing that an option expresses")
    return answer.goal
