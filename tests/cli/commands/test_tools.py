"""The agents' read tools on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rudder.cli.main import make_app
from rudder.memory.run.run_reader import RunReader
from rudder.tools.catalog import SPECS
from rudder.training.errors import ConfigError, DataError, RudderError
from tests.agents.replay.made import FOLDER

READS = [spec.name for spec in SPECS if spec.kind == "read"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small recorded run."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "steering").mkdir()
    shutil.copy(FOLDER / "embedded.db", folder / "steering" / "rank0.db")
    return folder


def answer(run: Path, *words: str) -> Any:
    told = CliRunner().invoke(make_app(), ["tools", "call", *words, "--run", str(run), "--json"])
    assert told.exit_code == 0, told.output
    return json.loads(told.output)


def refusal(run: Path, *words: str) -> RudderError:
    told = CliRunner().invoke(make_app(), ["tools", "call", *words, "--run", str(run)])
    assert isinstance(told.exception, RudderError)
    return told.exception


@pytest.mark.parametrize("name", READS)
def test_every_read_tool_answers_people_in_words_and_in_json(run: Path, name: str) -> None:
    assert answer(run, name)
    told = CliRunner().invoke(make_app(), ["tools", "call", name, "--run", str(run)])
    assert told.exit_code == 0, told.output
    assert all(len(line) <= 80 for line in told.output.splitlines())
    assert "…" not in told.output


def test_answers_are_of_the_last_windows(run: Path) -> None:
    with RunReader(run / "steering" / "rank0.db") as reader:
        windows = reader.windows()
    found = answer(run, "read_metrics", "num_windows=2")["windows"]
    assert [each["first_step"] for each in found] == [each.first_step for each in windows[-2:]]
    assert found[-1]["capacity_rows"] == windows[-1].settings.capacity_rows


def test_what_is_left_out_of_an_estimate_stays_as_it_is(run: Path) -> None:
    kept = answer(run, "estimate_effect")
    assert kept["changed"] == kept["present"]
    none = answer(run, "estimate_effect", "capacity_rows=0")["changed"]
    assert none["buffer_bytes"] == 0
    assert none["rows_fetched"]["mid"] > kept["changed"]["rows_fetched"]["mid"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set",), "rudder set"),
        (("read_everything",), "read_metrics, read_buffer_state"),
        (("read_metrics", "windows=3"), "num_windows=VALUE"),
        (("read_metrics", "num_windows=many"), "num_windows"),
        (("read_buffer_state", "3"), "no arguments"),
        (("estimate_effect", "capacity_rows=99999999"), "allowed: 0 to"),
    ],
)
def test_wrong_calls_say_what_is_allowed(run: Path, words: tuple[str, ...], said: str) -> None:
    error = refusal(run, *words)
    assert isinstance(error, ConfigError)
    assert said in f"{error.message} {error.remedy}"


def test_a_rank_that_was_not_there_is_named(run: Path) -> None:
    error = refusal(run, "read_metrics", "--rank", "7")
    assert isinstance(error, DataError)
    assert "rank7.db" in error.message
