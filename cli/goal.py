"""Goals in words: what `--goal "at most 2 GB, spare the network"` means as options of a run."""

from __future__ import annotations

import asyncio
import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Annotated, Any

import typer
from pydantic import Field, field_validator

from rudder.agents.llm.answers import TypedAnswer, clean, form_of, read_answer
from rudder.agents.llm.asker import AskTurn
from rudder.agents.llm.errors import ChatError, InvalidAnswerError
from rudder.agents.llm.messages import Question
from rudder.agents.team import asker_of, open_chat
from rudder.cli.show.progress import say, this_clock
from rudder.training.errors import ConfigError
from rudder.training.options import parse_bytes
from rudder.training.schedule import SCHEDULE_FORMS, DaySchedule, Hours, Period
from rudder.training.steering_options import Objective, SteeringOptions

_DEADLINE_S = 60.0
_SYSTEM = f"""You read what a person wants of a training run, and express it in fields of `goal`.
What holds at all hours goes into objective and memory_budget_mib. What holds at certain hours of
every day goes into schedule, which is written {SCHEDULE_FORMS}; it may set objective and
memory_budget (bytes: 512MiB, 2GiB). The night is 22:00-06:00. What no field expresses, such as days
of the week, goes into left_out. Leave fields out that the words do not name."""
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
_TIME = r"(\d{1,2})(?::(\d{2}))? ?([ap]m)?"
_FROM_TO = rf"(?:between|from) {_TIME} (?:and|to|until|till) {_TIME}"
_PARTS_OF_DAY = {
    r"(?:at|by|(?:in|during) the) night|overnight": ("22:00", "6:00"),
    r"by day|(?:in|during) the day": ("6:00", "22:00"),
    r"in the mornings?": ("6:00", "12:00"),
    r"in the evenings?": ("18:00", "22:00"),
}
_HOURS = re.compile(rf"\b(?:{'|'.join([*_PARTS_OF_DAY, _FROM_TO])})(?![\w:])")
_PLACE = re.compile(r"@(\d+)")
"""Where hours were, before a goal is cut into phrases: `between 1 and 2` is no two phrases."""
KNOWN = (
    "fast | spare the network (traffic, link) | spare memory | at most 2 GB | at most 2 % slower;"
    " all but the last with hours: at night | from 22:00 to 6:00"
)
"""What the plain reader understands, with commas between phrases."""


@dataclass(frozen=True)
class Goal:
    """What words mean; None: they do not say; left_out: what no option can express."""

    objective: Objective | None = None
    memory_budget: str | None = None
    tolerance: float | None = None
    schedule: str | None = None
    left_out: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The options of `rudder train` that it means."""
        named = {
            "objective": self.objective,
            "memory_budget": self.memory_budget,
            "tolerance": self.tolerance,
            "schedule": self.schedule,
        }
        return {name: value for name, value in named.items() if value is not None}

    @property
    def as_typed(self) -> list[str]:
        """The options as a shell takes them."""
        return [
            f"--{name.replace('_', '-')} {quote(str(value))}"
            for name, value in self.options.items()
        ]

    def lines(self) -> Iterator[str]:
        """For a person to confirm."""
        yield from (f"  {each}" for each in self.as_typed)
        if self.schedule is not None:
            yield f"  hours are by {this_clock()}"
        yield from (f"  left out: {words}" for words in self.left_out)


def read_plain(text: str) -> Goal:
    """By plain rules; raises ConfigError for what they do not know, and for two objectives."""
    words = " ".join(text.lower().split()).replace("@", "")
    hours = list(map(_hours_of, _HOURS.finditer(words)))
    places = itertools.count()
    cut = re.split(
        r"\s*(?:[,;]|\.(?=\s|$)|\band\b|\bbut\b)\s*",
        _HOURS.sub(lambda _: f"@{next(places)}", words),
    )
    found: dict[str, Any] = {}
    periods: list[Period] = []
    for phrase in filter(None, map(str.strip, cut)):
        place = _PLACE.search(phrase)
        name, value = _meaning(_PLACE.sub("", phrase, count=1).strip())
        if place is not None and name != "tolerance":
            periods.append(Period(hours[int(place[1])], **{name: value}))
        elif place is not None or found.setdefault(name, value) != value:
            raise ConfigError.for_field(
                "goal",
                value=text,
                allowed=f"one {name} for the whole run",
                remedy=f"leave one of {found.get(name, 'its hours')} and {value} out",
            )
    if not found and not periods:
        raise _not_understood(text)
    return Goal(**found, schedule=_schedule_of(periods))


def _hours_of(words: re.Match[str]) -> Hours:
    for part, (begin, end) in _PARTS_OF_DAY.items():
        if re.fullmatch(part, words[0]):
            return Hours.parse(begin, end)
    begin, end = (_on_the_clock(*words.groups()[at : at + 3]) for at in (0, 3))
    try:
        return Hours.parse(begin, end)
    except ValueError as error:
        raise ConfigError(f"goal: {error}", remedy="write hours so: from 22:00 to 6:00") from None


def _on_the_clock(hour: str, minute: str | None, half: str | None) -> str:
    """`10`, None and `pm` as 22:00."""
    number = int(hour) if half is None else int(hour) % 12 + 12 * (half == "pm")
    return f"{number}:{minute or '00'}"


def _schedule_of(periods: Sequence[Period]) -> str | None:
    try:
        return str(DaySchedule(tuple(periods))) if periods else None
    except ValueError as error:
        raise ConfigError(f"goal: {error}", remedy="give each hour one of them") from None


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
        " language model to read yours; or --objective, --memory-budget, --tolerance, --schedule",
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
    meant = " ".join(goal.as_typed)
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
    schedule: Annotated[
        str, Field(max_length=500, description="22:00-06:00 objective=traffic; or empty")
    ] | None = None  # fmt: skip
    slower_percent: Annotated[float, Field(ge=0, le=100, description="tolerated")] | None = None
    left_out: Annotated[
        str, Field(max_length=300, description="words of the goal that no field expresses, or none")
    ]

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, text: str | None) -> str | None:
        return str(DaySchedule.parse(text)) if text else None

    @property
    def goal(self) -> Goal:
        """As options."""
        mib, percent = self.memory_budget_mib, self.slower_percent
        return Goal(
            objective=self.objective,
            memory_budget=None if mib is None else f"{mib}MiB",
            tolerance=None if percent is None else round(percent / 100, 6),
            schedule=self.schedule,
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
