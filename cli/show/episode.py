"""The whole story of one decision, in a page of plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel

from rudder.agents.llm.exchange import Exchange
from rudder.cli.show import figures
from rudder.memory.journal import ModelCall, Recalled
from rudder.memory.records import Episode, Observation, Outcome, Rejected
from rudder.memory.run.audit import AuditFilter, AuditRow
from rudder.memory.run.run_reader import RunReader
from rudder.tools.calls import Effect, Range, StepTimes
from rudder.training.workload import Workload

_WIDTH = 11
_SHORTENED = 74
"""Characters of a question or an answer on a page that is to stay a page."""


def episode_page(
    episode: Episode,
    *,
    workload: Workload | None = None,
    recalled: Sequence[Recalled] = (),
    model_calls: Sequence[ModelCall] = (),
    audit: Sequence[AuditRow] = (),
    whole: bool = False,
) -> str:
    """Seen, recalled, asked of a model, proposed, objected, done, expected and measured.

    What is not known is absent. whole: questions to models and their answers in full, else their
    beginnings.
    """
    title = f"Episode {episode.episode_id}: decision {episode.number} of rank {episode.rank}"
    sections = (
        ("work", _work(workload)),
        ("seen", _seen(episode.observation)),
        ("recalled", _recalled(episode, recalled)),
        ("asked", model_lines(model_calls, whole=whole)),
        ("proposed", _proposed(episode)),
        ("objected", _objected(episode)),
        ("done", _done(episode)),
        ("expected", _expected(episode)),
        ("measured", _measured(episode.outcome)),
        ("log", (_row(row) for row in audit)),
    )
    lines = [title, ""]
    for name, content in sections:
        is_exact = whole and name == "asked"
        folded = [part for line in content for part in ([line] if is_exact else _folded(line))]
        for number, line in enumerate(folded):
            lines.append(f"{name if number == 0 else '':{_WIDTH}}{line}")
    return "\n".join(lines)


def _folded(line: str) -> list[str]:
    """The line in 80 columns, with what goes on further in; words stay whole."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(
        line,
        figures.WIDTH - _WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def recorded_page(reader: RunReader, episode: Episode, *, whole: bool = False) -> str:
    """The page of an episode of a run, with all that its record has of it."""
    return episode_page(
        episode,
        workload=reader.workloads().get(episode.run_key),
        recalled=reader.recalled(episode),
        model_calls=reader.model_calls(episode=episode),
        audit=reader.audit(AuditFilter(episode_id=episode.episode_id)),
        whole=whole,
    )


def _work(work: Workload | None) -> Iterator[str]:
    if work is not None:
        yield (
            f"policy {work.policy}, partition {work.part} of {work.num_parts}, "
            f"{work.num_halo:,} halo nodes of {work.row_bytes:,} bytes, batch {work.batch_size:,}"
        )


def _seen(seen: Observation) -> Iterator[str]:
    left = "" if seen.steps_left is None else f", {seen.steps_left:,} steps left"
    if not seen.step_ms:
        yield f"nothing yet: before the first window{left}"
        yield f"settings {_changed(seen.settings)}"
        return
    yield f"step {seen.step:,}, window {seen.window:,}{left}"
    yield f"bottleneck {seen.bottleneck}, trend {seen.trend}"
    yield (
        f"hits {figures.percent(seen.hit_fraction)} of {seen.remote_rows:,.0f} remote rows a step; "
        f"{seen.rows_fetched:,.0f} ± {seen.noise_rows:,.0f} fetched"
    )
    yield (
        f"exposed wait {seen.exposed_wait_ms:.2f} ± {seen.noise_wait_ms:.2f} ms of "
        f"{seen.step_ms:.2f} ms a step ({figures.percent(seen.exposed_fraction)})"
    )
    if seen.times is not None:
        yield from _times(seen.times)
    if seen.headroom_rows is not None:
        yield from _headroom(seen.headroom_rows, seen)
    yield f"settings {_changed(seen.settings)}"


def _times(times: StepTimes) -> Iterator[str]:
    """Where the time goes, on the trainer's side and beside it."""
    yield (
        f"trainer: model {times.model_ms:.2f} ms, waits for a core {times.core_wait_ms:.2f} ms, "
        f"sleeps (all-reduce) {times.blocked_ms:.2f} ms"
    )
    yield (
        f"beside it: loader {times.loader_ms:.2f} ms (taking rows in {times.rows_ms:.2f} ms), "
        f"link {times.link_ms:.2f} ms (idle {times.slack_ms:.2f} ms)"
    )
    yield f"the step is bound by: {times.binds}"


def _headroom(rows: float, seen: Observation) -> Iterator[str]:
    """The wait is an estimate for an estimate: it may be more than what was measured."""
    yield f"headroom {rows:,.0f} rows a step that the best buffer allowed would not fetch (OPT)"
    wait, measured = seen.headroom_wait_ms, seen.exposed_wait_ms
    if wait is None:
        return
    most = f"; at most the {measured:.2f} ms measured can be saved" if wait > measured else ""
    yield f"estimated wait of these settings less that of OPT: {wait:.2f} ms a step{most}"


def _recalled(episode: Episode, recalled: Sequence[Recalled]) -> Iterator[str]:
    known = {each.episode.episode_id: each for each in recalled}
    for episode_id in episode.recalled or known:
        found = known.get(episode_id)
        if found is None:
            yield episode_id
            continue
        past = found.episode
        result = past.outcome.result if past.outcome else figures.ABSENT
        change = _changed(past.plan.change)
        yield f"{episode_id} at distance {found.distance:.2f}: {change}: {result}"


def model_lines(calls: Sequence[ModelCall], *, whole: bool) -> Iterator[str]:
    """Questions to models and their answers; whole: in full."""
    for call in calls:
        tokens = f"{call.input_tokens} + {call.output_tokens} tokens ({call.tokens_source})"
        asked = f"{call.agent} asked {call.model} at step {call.step:,}"
        yield f"{asked}: {call.latency_ms:.0f} ms, {tokens}"
        question, answer = _texts(call)
        for name, text in (("question", question), ("answer", answer)):
            if whole:
                yield f"  {name}:"
                yield from (f"    {line}" for line in text.splitlines())
            else:
                yield f"  {name}: {textwrap.shorten(text, _SHORTENED, placeholder=' ...')}"
    if calls and not whole:
        yield "--whole prints questions and answers in full"


def _texts(call: ModelCall) -> tuple[str, str]:
    """Question and answer as they were put; what this version cannot read, as it is stored."""
    try:
        exchange = Exchange.of_model_call(call)
    except ValueError:
        return call.messages, call.answer or call.error_type or "none"
    asked, came = exchange.asked, exchange.came
    answers = []
    if came.reply is not None:
        answers += [came.reply.text] if came.reply.text else []
        answers += [f"{each.name}({each.arguments or ''})" for each in came.reply.calls]
    if came.error is not None:
        answers.append(f"not used: {came.error}{': ' if came.reason else ''}{came.reason or ''}")
    texts = asked.question.texts(asked.mode)
    return "\n".join(text for _, text in reversed(texts)), "\n".join(answers) or "empty"


def _proposed(episode: Episode) -> Iterator[str]:
    plan = episode.plan
    if (first := episode.rejected) is not None:
        yield f"{first.plan.planner}: {_changed(first.plan.change)}"
        yield f"because {first.plan.reason}"
        yield f"rejected: {_rejected(first)}"
    yield f"{plan.planner}: {_changed(plan.change)}"
    yield f"because {plan.reason}"
    if plan.propensity is not None:
        yield f"drawn with a probability of {figures.percent(plan.propensity)}"
    for call in plan.calls:
        wanted = {name: value for name, value in call.arguments.items() if not _is_said(name)}
        yield f"call {call.tool}({', '.join(_named(wanted))})"


def _is_said(argument: str) -> bool:
    """Arguments of every call that the page tells elsewhere: why, and what is expected."""
    return argument == "reason" or argument.startswith("expected_")


def _rejected(first: Rejected) -> str:
    """Why a plan came to nothing."""
    if first.guard is not None:
        return f"refused by the guard: {first.guard.reason}"
    return "nothing to do" if first.verdict is None else f"refused: {first.verdict.reason}"


def _objected(episode: Episode) -> Iterator[str]:
    verdict, guard = episode.verdict, episode.guard
    if verdict is not None:
        trimmed = f" to {_changed(verdict.change)}" if verdict.decision == "trim" else ""
        yield f"critic {verdict.critic}: {verdict.decision}{trimmed}: {verdict.reason}"
    if guard is not None:
        said = "allowed" if guard.allowed else f"refused by {guard.rule}"
        yield f"guard: {said}: {guard.reason}"


def _done(episode: Episode) -> Iterator[str]:
    applied = episode.applied
    if episode.command_id is None:
        yield "nothing was sent to the trainer"
    elif applied is None:
        yield f"command {episode.command_id}, no answer"
    else:
        reason = f": {applied.reason}" if applied.reason else ""
        yield f"command {episode.command_id}: {applied.outcome} at step {applied.step:,}{reason}"
        yield f"in force {_changed(applied.settings)}"


def _expected(episode: Episode) -> Iterator[str]:
    effect: Effect | None = episode.plan.expected
    if episode.verdict is not None and episode.verdict.expected is not None:
        effect = episode.verdict.expected
    if effect is not None:
        yield f"rows fetched a step {_range(effect.rows_fetched, digits=0)}"
        yield f"exposed wait a step {_range(effect.exposed_wait_ms, digits=2)} ms"
        if effect.times is not None:
            yield f"link idle {effect.times.slack_ms:.2f} ms a step, bound by: {effect.times.binds}"
        yield f"buffer {figures.mebibytes(effect.buffer_bytes)}"


def _measured(outcome: Outcome | None) -> Iterator[str]:
    if outcome is None:
        yield "no outcome yet"
        return
    yield f"{outcome.result}{': ' if outcome.reason else ''}{outcome.reason}"
    if outcome.rows_after is not None:
        before = "" if outcome.rows_before is None else f"{outcome.rows_before:,.0f} -> "
        error = _error(outcome)
        yield f"rows fetched a step {before}{outcome.rows_after:,.0f}{error}"
    if outcome.wait_ms_after is not None:
        before = "" if outcome.wait_ms_before is None else f"{outcome.wait_ms_before:.2f} -> "
        yield f"exposed wait a step {before}{outcome.wait_ms_after:.2f} ms"


def _error(outcome: Outcome) -> str:
    error, expected = outcome.rows_error, outcome.rows_expected
    if error is None:
        return ""
    than = "expected" if expected is None else f"the {expected:,.0f} expected of these steps"
    return f", {figures.percent(abs(error))} {'more' if error > 0 else 'less'} than {than}"


def _row(row: AuditRow) -> str:
    outcome = f" {row.outcome}" if row.outcome else ""
    return f"{row.number:>6} {row.time[11:23]} {row.agent:8} {row.kind:6} {row.tool}{outcome}"


def _changed(settings: BaseModel) -> str:
    given = settings.model_dump(exclude_none=True, exclude_defaults=True)
    named = (f"{name} {_value(value)}" for name, value in given.items())
    return ", ".join(named) or "keep things as they are"


def _value(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(_named({name: of for name, of in value.items() if name != "ids"}))
    return figures.plain(value)


def _named(values: Mapping[str, object]) -> Iterator[str]:
    return (f"{name}={figures.plain(value)}" for name, value in values.items())


def _range(range_: Range, *, digits: int) -> str:
    return f"{range_.mid:,.{digits}f} ({range_.low:,.{digits}f} to {range_.high:,.{digits}f})"
