"""`rudder bench policy` prints costs as a table and as JSON."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from rudder.cli.commands.bench import app

SMALL = [
    "policy", "--policies", "lru", "--capacity", "50", "--remote-nodes", "500,1000",
    "--inputs", "60", "--batches", "5",
]  # fmt: skip


@pytest.mark.parametrize("words", [["policy", "capacity", "remote", "layout", "flat", "spread"]])
def test_the_table_fits_80_columns(words: list[str]) -> None:
    done = CliRunner().invoke(app, SMALL, env={"COLUMNS": "80"})
    assert done.exit_code == 0
    assert all(word in done.stdout for word in words)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_json_has_a_row_per_policy_capacity_and_graph() -> None:
    done = CliRunner().invoke(app, [*SMALL, "--json"])
    rows = json.loads(done.stdout[done.stdout.index("[") :])
    assert [row["num_remote"] for row in rows] == [180, 500, 1000, 500, 1000]
    assert [row["flatness"] is None for row in rows] == [True, False, False, False, False]
