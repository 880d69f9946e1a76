"""Traffic for people: lists on the command line, the table, the picture."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rudder.cli.commands.policies import study
from rudder.cli.show.policies import check_picture, draw_traffic, traffic_table
from rudder.training.errors import ConfigError
from rudder.training.metrics import RowsFetched
from rudder.training.simulate.study import OPT, Traffic


def row(policy: str, fetched: int, *, capacity: float = 0.25, ahead: int | None = 16) -> Traffic:
    return Traffic(
        policy=policy,
        capacity=capacity,
        capacity_rows=int(capacity * 71_290),
        lookahead=ahead,
        rows_fetched=fetched,
        by_cause=RowsFetched(miss=fetched),
        remote_rows=1_854_848,
        cold_rows=43_674,
        opt_rows=620_037,
        ratio_to_opt=fetched / 620_037,
        hit_fraction=0.651,
        halo_hit_fraction=None,
        accesses_per_second=12.3e6,
    )


ROWS = [row(OPT, 620_037, ahead=None), row("lookahead", 646_923), row("score:interval=32", 1316843)]


def test_lists_are_read_once_each_in_their_order() -> None:
    asked = study("lru,lfu, lru", "0.5,20000,64MiB", "16,0", warm_epochs=1)
    assert asked.policies == ("lru", "lfu")
    assert [size.unit for size in asked.capacities] == ["halo_fraction", "rows", "bytes"]
    assert asked.lookaheads == (16, 0)


@pytest.mark.parametrize(
    ("policies", "capacity", "lookahead", "says"),
    [
        (",", "0.5", "16", "policies"),
        ("lru", "half", "16", "capacity"),
        ("lru", "0.5", "-1", "lookahead"),
        ("lru", "0.5", "1025", "lookahead"),
    ],
)
def test_a_wrong_list_is_refused_by_its_name(
    policies: str, capacity: str, lookahead: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        study(policies, capacity, lookahead, warm_epochs=0)


def test_the_table_fits_eighty_columns_and_cuts_no_figure() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(traffic_table(ROWS, title="a run"))
    text = out.getvalue()
    assert "…" not in text
    assert all(shown in text for shown in ("1,316,843", "1.043", "71.0 %", "65.1 %", "43,674"))


def test_the_picture_is_drawn_with_lines_that_leave_it_named(tmp_path: Path) -> None:
    beyond = row("score:interval=1", 9_000_000)
    draw_traffic([*ROWS, beyond], tmp_path / "rows.svg", title="a run")
    assert (tmp_path / "rows.svg").stat().st_size > 10_000
    assert "<svg" in (tmp_path / "rows.svg").read_text()


@pytest.mark.parametrize("name", ["rows.gif", "nowhere/rows.png", "rows"])
def test_a_picture_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="picture"):
        check_picture(tmp_path / name)
