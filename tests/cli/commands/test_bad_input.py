"""What a user gets wrong: exit code 2, the argument, its value, what is allowed, and what next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rudder.cli.main import make_app
from rudder.memory.sample import write_sample_run
from rudder.training.config import CONFIG_FILE
from rudder.training.errors import ConfigError

WRONG = [
    ("where", "audit list {none}"),
    ("steps", "audit list {run} --steps a:b"),
    ("where", "audit tail {none}"),
    ("where", "audit show {none} 1"),
    ("where", "audit verify {none}"),
    ("memory", "audit verify {run} --memory {none}"),
    ("audit_anchor", "audit verify {run} --audit-anchor {none}"),
    ("audit_key", "audit verify {run} --audit-key {none}"),
    ("audit_key", "audit heads {run} --audit-key {none}"),
    ("audit_key", "train --audit-key {none}"),
    ("audit_anchor", "train --audit-anchor {none}/x/y"),
    ("out", "audit export {run} {none}/x/y.jsonl"),
    ("run", "explain abc --run {none}"),
    ("memory", "explain abc --memory {none}"),
    ("memory", "memory list --memory {none}"),
    ("memory", "memory show abc --memory {none}"),
    ("memory", "memory stats --memory {none}"),
    ("memory", "memory trust abc --memory {none}"),
    ("memory", "memory prune --memory {none}"),
    ("sources", "memory merge {none} --memory {none}"),
    ("file", "memory import {none} --memory {none}"),
    ("run", "steer status --run {none}"),
    ("run", "steer off --run {none}"),
    ("run", "steer budget --run {none} 5MiB"),
    ("run", "replay --run {none}"),
    ("planner", "replay --run {run} --planner nobody"),
    ("planner", "train --planner nobody --run-dir {none}"),
    ("policy", "train --policy nothing:7 --run-dir {none}"),
    ("goal", "train --goal nonsense --run-dir {none}"),
    ("planner", "train --collect --planner embedded"),
    ("planner", "train --collect --llm http://127.0.0.1:9/v1 --llm-model m"),
    ("hosts", "bench epochs --hosts node1,node2 --out {none}"),
    ("dataset", "bench harm --dataset synthetic:tiny --dataset drift --out {none}"),
    ("rate", "bench harm --dataset synthetic:tiny --rate none --rate soon --out {none}"),
    ("out", "report {run} --out {pipe}"),
    ("dataset", "bench traffic --dataset synthetic:tiny --dataset drift --out {none}"),
]
OUT_OF_RANGE = [
    ("--rank", "audit list {run} --rank -1"),
    ("--agent", "audit list {run} --agent nobody"),
    ("--outcome", "audit list {run} --outcome fine"),
    ("--kind", "audit list {run} --kind row"),
    ("--since", "audit list {run} --since never"),
    ("--keep", "memory prune --keep -1"),
    ("--repeats", "bench epochs --repeats 1001 --out {none}"),
    ("--epochs-per-turn", "bench grid --epochs-per-turn 1001 --out {none}"),
    ("--turns", "bench planners --live --turns 1001 --out {none}"),
    ("--timeout", "steer status --run {run} --timeout -1"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    write_sample_run(folder, num_episodes=2)
    os.mkfifo(folder.parent / "pipe")
    return folder


def arguments(line: str, run: Path) -> list[str]:
    return line.format(run=run, none=run.parent / "none", pipe=run.parent / "pipe").split()


@pytest.mark.parametrize(("name", "line"), WRONG, ids=[line for _, line in WRONG])
def test_what_is_wrong_is_named_with_what_is_allowed(name: str, line: str, run: Path) -> None:
    error = CliRunner().invoke(make_app(), arguments(line, run)).exception
    assert isinstance(error, ConfigError), error
    assert error.exit_code == 2
    assert error.message.startswith(f"{name} = ")
    assert error.remedy
    assert not (run.parent / "none").exists()
    assert (run.parent / "pipe").is_fifo()


@pytest.mark.parametrize("line", [line for _, line in WRONG if "{none}" in line])
def test_a_name_that_no_file_can_have_is_an_error_of_the_users(line: str, run: Path) -> None:
    words = line.format(run=run, none="x" * 5000).split()
    assert isinstance(CliRunner().invoke(make_app(), words).exception, ConfigError)


@pytest.mark.parametrize(("name", "line"), OUT_OF_RANGE, ids=[line for _, line in OUT_OF_RANGE])
def test_what_is_out_of_range_is_named(name: str, line: str, run: Path) -> None:
    result = CliRunner().invoke(make_app(), arguments(line, run))
    assert result.exit_code == 2
    assert f"Invalid value for '{name}'" in result.output


@pytest.mark.parametrize("command", [["audit", "tail"], ["top"]])
def test_a_run_whose_record_is_yet_to_come_is_not_called_one_without(
    command: list[str], tmp_path: Path
) -> None:
    (tmp_path / CONFIG_FILE).touch()
    error = CliRunner().invoke(make_app(), [*command, str(tmp_path)]).exception
    assert isinstance(error, ConfigError)
    assert "some seconds after its training begins" in error.remedy


def test_an_error_ends_in_two_lines_and_no_traceback(run: Path) -> None:
    line = [sys.executable, "-c", "from rudder.cli.main import main; main()"]
    done = subprocess.run(
        [*line, "audit", "export", str(run), str(run / "no" / "x")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert [each.split(":")[0] for each in done.stderr.splitlines()] == ["error", "  what to do"]
