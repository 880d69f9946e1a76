"""Rows of the audit log as lines for people, within 80 columns or as wide as it takes."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Collection, Iterator, Sequence

from rudder.cli.show import figures
from rudder.memory.run.audit import COLUMNS, AuditRow, Cell

# Audit rows under the names of OpenTelemetry's semantic conventions for generative AI.
#
# https://opentelemetry.io/docs/specs/semconv/gen-ai/; what they have no name for is `rudder.*`.


ATTRIBUTES = {
    "agent": "gen_ai.agent.name",
    "tool": "gen_ai.tool.name",
    "call_id": "gen_ai.tool.call.id",
    "arguments": "gen_ai.tool.call.arguments",
    "result": "gen_ai.tool.call.result",
    "model": "gen_ai.request.model",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "error_type": "error.type",
}


def attributes(row: AuditRow) -> dict[str, Cell]:
    """What is not null, under its conventional name."""
    named: dict[str, Cell] = {
        ATTRIBUTES.get(name, f"rudder.{name}"): value
        for name, value in row.columns().items()
        if value is not None
    }
    return {"gen_ai.operation.name": "chat" if row.model else "execute_tool", **named}


def as_csv(rows: Sequence[AuditRow]) -> str:
    """With a header; what is absent is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.columns() for row in rows)
    return text.getvalue()


def as_telemetry(rows: Sequence[AuditRow]) -> str:
    """A JSON object a line, with OpenTelemetry's names."""
    return "".join(json.dumps(attributes(row)) + "\n" for row in rows)


_COLUMNS = ("seq", "time", "rank", "step", "agent", "what", "episode")
_RIGHT = {"seq", "rank", "step"}
_INDENT = "      "
_LEAST_PREFIX = 10
_FIRST = ("reason", "settings", "change")
_SAID_BY_THE_LINE = {"command_id", "outcome", "rank", "decision"}
_SECONDS = slice(11, 19)
"""Of a stored time: hours, minutes, seconds."""


def audit_text(rows: Sequence[AuditRow], *, width: int, ids: Collection[str] = frozenset()) -> str:
    """A line a row; what a row says follows on lines of its own, cut after two of them.

    width: columns of the terminal; ids: of all episodes of the run. Episodes are named by as much
    of their ids as tells them apart from all others, which `rudder explain` takes.
    """
    lines = _aligned([_COLUMNS, *_cells(rows, ids)])
    texts = [next(lines)]
    for row, line in zip(rows, lines, strict=True):
        texts.append(line)
        texts += textwrap.wrap(
            _gist(row),
            width,
            initial_indent=_INDENT,
            subsequent_indent=_INDENT,
            max_lines=2,
            placeholder=" ...",
        )
    return "\n".join(texts)


def wide_text(rows: Sequence[AuditRow]) -> str:
    """A line a row with whole times and ids, milliseconds, and all that it says at the end."""
    header = ("seq", "time", "rank", "step", "agent", "what", "ms", "episode", "detail")
    cells = [
        (
            str(row.number),
            row.time,
            str(row.rank),
            str(row.step),
            row.agent,
            _what(row),
            figures.ABSENT if row.latency_ms is None else f"{row.latency_ms:.1f}",
            row.episode_id or figures.ABSENT,
            detail(row),
        )
        for row in rows
    ]
    return "\n".join(_aligned([header, *cells]))


def detail(row: AuditRow) -> str:
    """An error, or else the result or the arguments, as names and rounded values."""
    return _with_error(row, _content(row))


def _gist(row: AuditRow) -> str:
    """The detail without what the line shows already, the most wanted first."""
    content = _content(row)
    if isinstance(content, dict):
        rest = {name: content[name] for name in content if name not in _SAID_BY_THE_LINE}
        first = {name: rest[name] for name in _FIRST if name in rest}
        content = first | rest
    return _with_error(row, content)


def _content(row: AuditRow) -> object:
    if row.model is not None:
        tokens = {"input_tokens": row.input_tokens, "output_tokens": row.output_tokens}
        return {"model": row.model, **tokens}
    text = row.result or row.arguments or ""
    try:
        content = json.loads(text) if text else {}
    except ValueError:
        return text
    if isinstance(content, dict) and set(content) == {"arguments"}:
        return content["arguments"]
    return content


def _with_error(row: AuditRow, content: object) -> str:
    said = ", ".join(_flat(content)) if isinstance(content, dict | list) else str(content)
    return f"{row.error_type}: {said}" if row.error_type and said else row.error_type or said


def _cells(rows: Sequence[AuditRow], ids: Collection[str]) -> Iterator[tuple[str, ...]]:
    names = prefixes({row.episode_id for row in rows if row.episode_id} | set(ids))
    for row in rows:
        yield (
            str(row.number),
            row.time[_SECONDS],
            str(row.rank),
            str(row.step),
            row.agent,
            _what(row),
            names[row.episode_id] if row.episode_id else figures.ABSENT,
        )


def _what(row: AuditRow) -> str:
    """`set_lookahead call`, `set_lookahead staged`; `apply_change intent` or `applied`."""
    begins = row.kind in ("call", "intent")
    return f"{row.tool} {row.kind if begins else row.outcome or row.kind}"


def prefixes(ids: set[str], *, least: int = _LEAST_PREFIX) -> dict[str, str]:
    """The beginnings of ids, by id: the same number of letters, so many that no two are alike."""
    longest = max(map(len, ids), default=0)
    num = next(
        (n for n in range(least, longest) if len({name[:n] for name in ids}) == len(ids)),
        longest,
    )
    return {name: name[:num] for name in ids}


def _aligned(table: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        parts = [
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(table[0], cells, widths, strict=True)
        ]
        yield " ".join(parts).rstrip()


def _flat(content: object, name: str = "") -> Iterator[str]:
    """`settings.capacity_rows=1,200`, of several answers `[2].rows_fetched.mid=130.1`, and so on;
    what is absent is left out."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, list) and any(isinstance(each, dict) for each in content):
        for number, each in enumerate(content, 1):
            yield from _flat(each, name if len(content) == 1 else f"{name}[{number}]")
    elif content is not None and content != []:
        said = figures.plain(content)
        yield f"{name}={said}" if name else said
