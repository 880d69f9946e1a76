"""Goals in words become options that a person has confirmed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rudder.bench.model_server.scripted_server import CallTool, Fail, ScriptedServer, Step
from rudder.cli.goal import read_plain, with_goal
from rudder.training.config import run_config
from rudder.training.errors import ConfigError

RUDDER = Path(sys.executable).parent / "rudder"
NIGHT = "at most 2 GB, spare the network at night"


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (NIGHT, {"memory_budget": "2GB", "schedule": "22:00-06:00 objective=traffic"}),
        ("As fast as possible.", {"objective": "time"}),
        ("spare memory and at most 2% slower", {"objective": "memory", "tolerance": 0.02}),
        ("up to 512 MiB of memory", {"memory_budget": "512MIB"}),
        ("use less bandwidth; fast", None),
        (
            "fast, save the link between 10 pm and 6:30",
            {
                "objective": "time",
                "schedule": "22:00-06:30 objective=traffic",
            },
        ),
        (
            "by day at most 1 GB and spare the link, fast from 18 to 6",
            {
                "objective": "traffic",
                "schedule": "06:00-22:00 memory_budget=1GB; 18:00-06:00 objective=time",
            },
        ),
        ("at most 1.5 gb of ram per host", {"memory_budget": "1.5GB"}),
    ],
)
def test_plain_rules_read_a_small_set_of_phrases(words: str, options: Any) -> None:
    if options is None:
        with pytest.raises(ConfigError, match="one objective"):
            read_plain(words)
        return
    assert read_plain(words).options == options
    run_config(**options)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "at night",
        "be nice",
        "at most 2 GB of disk",
        "fast, please",
        "up to 9999999999 TB",
        "fast at weekends",
        "fast after 22:00",
        "fast @0",
    ],
)
def test_other_words_are_refused_with_those_that_are_known(words: str) -> None:
    with pytest.raises(ConfigError, match="goal") as error:
        read_plain(words)
    assert "at most 2 GB" in str(error.value)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("fast at night, spare the link from 5:00 to 7:00", "overlap, and both set objective"),
        ("spare memory from 22:00 to 25:00", "25:00 is no time of day"),
        ("at most 2% slower at night", "one tolerance for the whole run"),
    ],
)
def test_hours_that_cannot_be_kept_to_are_refused(words: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read_plain(words)


def test_a_goal_does_not_contradict_an_option() -> None:
    given = {"goal": NIGHT, "memory_budget": "1GB"}
    with pytest.raises(ConfigError, match="goal and memory_budget"):
        with_goal(given, yes=True)
    assert with_goal({"goal": None, "lr": 1.0}, yes=False) == {"goal": None, "lr": 1.0}


def test_a_goal_is_shown_and_needs_a_yes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="--memory-budget 2GB --schedule '22:00-06:00 "):
        with_goal({"goal": NIGHT}, yes=False)  # pytest's standard input is no terminal
    shown = capsys.readouterr().err
    meant = "--memory-budget 2GB\n  --schedule '22:00-06:00 objective=traffic'"
    assert f'goal "{NIGHT}" means:\n  {meant}\n  hours are by the clock of this machine' in shown
    config = run_config(**with_goal({"goal": NIGHT}, yes=True))
    assert (config.goal, config.objective, config.memory_budget) == (NIGHT, "time", "2GB")
    assert config.schedule == "22:00-06:00 objective=traffic"


def train(answer: str, cwd: Path) -> str:
    """What `rudder train` says on a terminal where a person answers; there is no graph."""
    ours, theirs = pty.openpty()
    command = [str(RUDDER), "train", "--goal", NIGHT, "--data", "nowhere"]
    run = subprocess.Popen(command, stdin=theirs, stderr=subprocess.PIPE, text=True, cwd=cwd)
    os.write(ours, f"{answer}\n".encode())
    _, errors = run.communicate(timeout=100)
    os.close(ours)
    os.close(theirs)
    assert run.returncode != 0
    return errors


def test_a_person_says_yes_or_no_on_a_terminal(tmp_path: Path) -> None:
    agreed, refused = train("y", tmp_path), train("n", tmp_path)
    assert "train so?" in agreed
    assert "nowhere" in agreed
    assert "the goal was not confirmed" in refused
    assert "nowhere" not in refused


def read_by(step: Step, words: str) -> dict[str, Any]:
    with ScriptedServer([step]) as server:
        found = with_goal({"goal": words, "llm": server.url, "llm_model": "m"}, yes=True)
        assert f"GOAL: {words}" in server.requests[0].text
    return {name: value for name, value in found.items() if not name.startswith("llm")}


def test_a_model_reads_any_words(capsys: pytest.CaptureFixture[str]) -> None:
    night = "22:00-06:00 objective=traffic"
    said = {"memory_budget_mib": 2048, "schedule": night, "left_out": "gentle"}
    words = "be gentle with our switch at night, two gigs are fine"
    found = read_by(CallTool([("goal", json.dumps(said))]), words)
    assert found == {"goal": words, "memory_budget": "2048MiB", "schedule": night}
    assert "left out: gentle" in capsys.readouterr().err


@pytest.mark.parametrize(
    "step",
    [
        Fail("500"),
        Fail("prose"),
        CallTool([("goal", '{"left_out": "all of it"}')]),
        CallTool([("goal", '{"objective": "money", "left_out": ""}')]),
        CallTool([("goal", '{"schedule": "at night objective=time", "left_out": ""}')]),
    ],
)
def test_plain_rules_take_over_from_a_model_that_fails(
    step: Step, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_by(step, "spare memory")["objective"] == "memory"
    assert "it is read by plain rules" in capsys.readouterr().err
