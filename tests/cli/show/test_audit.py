"""The audit log for people: 80 columns are enough, and nothing that tells rows apart is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rudder.cli.show import figures
from rudder.cli.show.audit import audit_text, detail, wide_text
from rudder.memory.run.audit import COLUMNS, AuditRow
from rudder.memory.run.run_reader import RunReader
from rudder.memory.sample import write_sample_run


def row(**values: Any) -> AuditRow:
    usual: dict[str, Any] = dict.fromkeys(COLUMNS)
    usual |= {
        "number": 1,
        "time": "2026-01-02T03:04:05.678901Z",
        "rank": 0,
        "kind": "call",
        "call_id": "c",
        "agent": "planner",
        "tool": "set_replacement_interval",
        "step": 123_456,
    }
    return AuditRow.model_construct(**(usual | values))


@pytest.fixture
def rows(tmp_path: Path) -> list[AuditRow]:
    with RunReader(write_sample_run(tmp_path, num_episodes=3)[1]) as reader:
        return reader.audit()


def test_no_line_is_wider_than_the_terminal(rows: list[AuditRow]) -> None:
    longest = row(
        number=12_345,
        agent="observer",
        kind="result",
        outcome="answered",
        episode_id="0123456789abcdef" * 2,
        result=json.dumps({"reason": "word " * 100}),
    )
    hexadecimal = [each.model_copy(update={"episode_id": "f" + "0123" * 8}) for each in rows]
    for line in audit_text([*hexadecimal, longest], width=80).splitlines():
        assert len(line) <= 80


def test_lines_name_seq_time_rank_step_agent_what_and_episode(rows: list[AuditRow]) -> None:
    header, first, below, second = audit_text(rows, width=80).splitlines()[:4]
    assert header.split() == ["seq", "time", "rank", "step", "agent", "what", "episode"]
    time = rows[0].time[11:19]
    assert first.split() == [
        "6",
        time,
        "1",
        "0",
        "planner",
        "set",
        "call",
        "5a4d91e0-1-0",
    ]
    assert below.strip().startswith("capacity_rows=")
    assert "set staged" in second


def test_episodes_are_named_by_as_much_as_tells_them_apart() -> None:
    ids = ("aaaaaaaaaaaabbbb0000", "aaaaaaaaaaaabbbb1111", "cccccccc000000000000")
    lines = audit_text([row(episode_id=each) for each in ids], width=80).splitlines()[1:]
    assert [line.split()[-1] for line in lines] == [each[:17] for each in ids]
    (line,) = audit_text([row(episode_id=ids[0])], width=80).splitlines()[1:]
    assert line.split()[-1] == "a" * 10


def test_below_a_line_stands_first_what_the_line_does_not_say() -> None:
    settings = {"capacity_rows": 133}
    applied = {"command_id": "c", "outcome": "applied", "rank": 0, "step": 64, "settings": settings}
    review = {"decision": "refuse", "critic": "embedded", "reason": "nothing would be won"}
    lines = audit_text(
        [
            row(kind="effect", outcome="applied", result=json.dumps(applied)),
            row(kind="note", outcome="refused", result=json.dumps(review)),
        ],
        width=80,
    ).splitlines()
    assert lines[2].strip() == "settings.capacity_rows=133, step=64"
    assert lines[4].strip() == "reason=nothing would be won, critic=embedded"


def test_wide_has_whole_ids_and_all_that_is_said(rows: list[AuditRow]) -> None:
    lines = wide_text(rows).splitlines()
    assert len(lines) == len(rows) + 1
    for each, line in zip(rows, lines[1:], strict=True):
        assert each.time in line
        assert (each.episode_id or figures.ABSENT) in line
        assert line.endswith(detail(each))


def test_what_is_said_is_rounded_and_flat_and_an_error_comes_first() -> None:
    said = {"arguments": {"share": 0.123456789, "rows": 12_345, "owner": None, "on": True}}
    assert detail(row(arguments=json.dumps(said))) == "share=0.1235, rows=12,345, on=True"
    assert detail(row(arguments='[{"num_windows": 4}]')) == "num_windows=4"
    answers = [{"rows": {"mid": 130.08513}}, {"wait_ms": 2.0}]
    assert detail(row(result=json.dumps(answers))) == "[1].rows.mid=130.1, [2].wait_ms=2"
    assert detail(row(result="not JSON", error_type="refused")) == "refused: not JSON"
    assert detail(row(error_type="TimeoutError")) == "TimeoutError"
    assert detail(row()) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (12345, "12,345"),
        (12345.6, "12,346"),
        (1.23456, "1.235"),
        (1e-7, "1e-07"),
        (True, "True"),
        ("x", "x"),
    ],
)
def test_figures_for_people_have_four_digits(value: object, text: str) -> None:
    assert figures.plain(value) == text
