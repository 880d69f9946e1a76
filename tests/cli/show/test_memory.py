"""Past episodes for people: a line each at 80 columns, and why some are not used."""

from __future__ import annotations

import io

from rich.console import Console

from rudder.cli.show.memory import memory_table
from rudder.memory.past.experience import EpisodeLine
from rudder.memory.sample import sample_workload


def line(**values: object) -> EpisodeLine:
    usual: dict[str, object] = {
        "episode_id": "0123456789abcdef" * 2,
        "origin": "memory-f857fcb9",
        "trusted": True,
        "run_key": "5a4d91e0",
        "rank": 0,
        "workload": sample_workload(),
        "planner": "embedded/1",
        "result": "confirmed",
        "rows_before": 12_179.4,
        "rows_after": 11_375.2,
        "wait_ms_before": 10.897,
        "wait_ms_after": None,
        "ended_at": "2026-01-02T03:04:05.678901Z",
    }
    return EpisodeLine.model_validate(usual | values)


def printed(*lines: EpisodeLine) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(memory_table(lines), highlight=False)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue().splitlines()


def test_an_episode_is_told_with_its_run_time_and_work_at_80_columns() -> None:
    lines = printed(line())
    assert max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    for said in (
        "0123456789", "5a4d91", "2026-01-02", "03:04", "lookahead,", "embedded/1:", "confirmed",
        "12,179", "11,375", "10.9", "512",
    ):  # fmt: skip
        assert said in words, said


def test_what_is_not_used_is_named_with_the_command_that_has_it_used() -> None:
    lines = printed(line(), line(episode_id="f" * 32, origin="memory-1", trusted=False))
    said = " ".join(" ".join(lines).split())
    assert said.endswith(
        "not used: what came from memory-1; `rudder memory trust ORIGIN` has runs use it"
    )
    assert all("used" not in text for text in printed(line()))
