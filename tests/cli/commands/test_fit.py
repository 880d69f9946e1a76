"""`rudder fit` and `rudder bench planners`, called as a user does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from rudder.agents.learned.planner import read_planner
from rudder.bench.model_server.scripted_server import CallTool, ScriptedServer
from rudder.bench.simulated.rehearsal import rehearse
from rudder.cli.commands.bench_planners import planners
from rudder.cli.commands.fit import fit
from rudder.training.errors import ConfigError, DataError, MachineError

KEEP = CallTool([("set", json.dumps({"reason": "it is well as it is"}))])
app = typer.Typer()
app.command("fit")(fit)
app.command("planners")(planners)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rehearse(tmp_path_factory.mktemp("fit"), runs=6, windows=36)


def rudder(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_fit_writes_a_model_and_tells_how_good_it_is(memory: Path, tmp_path: Path) -> None:
    out = tmp_path / "some.model"
    result = rudder("fit", "--planner", "lr", "--memory", memory, "--out", out)
    assert result.exit_code == 0, result.output
    header = read_planner(out, kind="lr").header
    assert f"ROC AUC            {header.metrics.roc_auc:.3f}" in result.stdout
    assert f"{header.metrics.test_runs} other runs" in result.stdout
    assert f"written: {out}" in result.stdout


def test_fit_tells_programs_the_same(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = json.loads(rudder("fit", "--planner", "rf", "--memory", memory, "--json").stdout)
    assert told["file"] == "rudder-rf.model"
    header = read_planner(tmp_path / told["file"]).header
    assert told["header"] == header.model_dump(mode="json")
    metrics = header.metrics
    assert metrics.train_runs + metrics.test_runs == 6
    measured = told["episodes"]["helped"] + told["episodes"]["did not help"]
    assert metrics.train_episodes + metrics.test_episodes == measured


def test_fit_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = rudder("fit", "--planner", "lr", "--memory", tmp_path / "none.db")
    assert isinstance(nothing.exception, DataError)
    for kind, package in (("xgb", "xgboost"), ("tabnet", "pytorch_tabnet")):
        monkeypatch.delitem(sys.modules, f"rudder.agents.learned.{kind}", raising=False)
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
        error = rudder("fit", "--planner", kind, "--memory", tmp_path / "none.db").exception
        assert isinstance(error, MachineError)
        assert f"rudder-gnn[{kind}]" in error.remedy


def test_planners_are_compared_on_the_same_workloads(memory: Path, tmp_path: Path) -> None:
    out = tmp_path / "lr.model"
    rudder("fit", "--planner", "lr", "--memory", memory, "--out", out)
    chosen = ("--planners", "fixed", "--model-file", out, "--seeds", 1, "--windows", 5)
    with ScriptedServer(lambda request: KEEP) as server:
        asked = ("--llm", server.url, "--model", "scripted")
        result = rudder("planners", *chosen, *asked, "--json")
    assert result.exit_code == 0, result.exception
    told = json.loads(result.stdout)
    fixed, learned, llm = told["standings"]
    assert (fixed["planner"], learned["planner"][:3]) == ("fixed", "lr:")
    assert llm["planner"] == "llm:scripted"
    assert server.requests
    assert fixed["cases"] == learned["cases"] == llm["cases"] == len(told["cases"]) / 3
    assert fixed["to_fixed"] == fixed["worst_to_fixed"] == 1
    assert fixed["applied"] == 0


def test_planners_that_are_unknown_are_told() -> None:
    assert isinstance(rudder("planners", "--planners", "oracle").exception, ConfigError)
    assert isinstance(rudder("planners", "--llm", "http://localhost:1").exception, ConfigError)
