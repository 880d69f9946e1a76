"""`rudder bench policy` prints costs as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rudder.cli.commands.bench import app

SMALL = [
    "policy", "--policies", "lru", "--capacity", "50", "--remote-nodes", "500,1000",
    "--inputs", "60", "--batches", "5",
]  # fmt: skip


@pytest.mark.parametrize("words", [["policy", "capacity", "remote", "layout", "flat", "spread"]])
def test_the_table_fits_80_columns(words: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*SMALL, "--out", str(tmp_path)], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    assert all(word in done.stdout for word in words)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_json_has_a_row_per_policy_capacity_and_graph(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*SMALL, "--json", "--out", str(tmp_path)])
    rows = json.loads(done.stdout)
    assert rows == json.loads((tmp_path / "policy.json").read_text())
    assert [row["num_remote"] for row in rows] == [180, 500, 1000, 500, 1000]
    assert [row["flatness"] is None for row in rows] == [True, False, False, False, False]


def test_what_was_timed_before_an_error_is_shown_and_kept(tmp_path: Path) -> None:
    policies = ["policy", "--policies", "lru,nonsense", *SMALL[3:], "--out", str(tmp_path)]
    done = CliRunner().invoke(app, policies)
    assert done.exit_code != 0
    assert "lru" in done.stdout
    assert {row["variant"] for row in json.loads((tmp_path / "policy.json").read_text())} == {"lru"}
