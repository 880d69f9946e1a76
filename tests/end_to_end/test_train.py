"""`rudder train` as a user runs it: a whole run of real processes, and what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from rudder.agents.controller.report import read_report
from rudder.memory.run.run_reader import RunReader
from rudder.training.config import run_config
from rudder.training.metrics import Summary
from tests.waiting import RUN_SECONDS, WAIT_SECONDS, until

pytestmark = pytest.mark.distributed
RUDDER = Path(sys.executable).parent / "rudder"


def rudder(*arguments: str, cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    more = {"cwd": cwd, "capture_output": True, "text": True, "timeout": RUN_SECONDS, **more}
    return subprocess.run([str(RUDDER), *arguments], **more)


def train(tiny_parts: Path, tmp_path: Path, *arguments: str, **more: Any) -> dict[str, Any]:
    run_dir = tmp_path / "run"
    done = rudder(
        "train", "--data", str(tiny_parts), "--run-dir", str(run_dir), "--json",
        "--controller", "none", *arguments,
        cwd=tmp_path, **more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary == json.loads((run_dir / "summary.json").read_text())
    assert isinstance(summary, dict)
    return summary


def test_train_reports_what_happened(tiny_parts: Path, tmp_path: Path) -> None:
    summary = train(tiny_parts, tmp_path, "--epochs", "3", "--batch-size", "128")
    assert summary["loader"] == "rudder"
    assert summary["policy"] == "lookahead"
    assert summary["test_accuracy"] > 0.6
    assert len(summary["epoch_seconds"]) == 3
    assert summary["rows_fetched"] < summary["remote_rows"]
    assert summary["hit_fraction"] == pytest.approx(_hit_fraction(summary))
    assert summary["halo_hit_fraction"] > summary["hit_fraction"]
    for rank in summary["ranks"]:
        for epoch in rank["epochs"]:
            rows = epoch["rows"]
            assert rows["hits"] + rows["rows_fetched"]["miss"] == rows["remote_rows"]
        held = rank["memory"]["buffer_rows"] * rank["row_bytes"]
        assert rank["memory"]["buffer_bytes"] == held > 0
        assert rank["memory"]["map_bytes"] <= 16 * rank["memory"]["map_nodes"] + 2**20
    stored = run_config(tmp_path / "run" / "config.toml")
    assert Summary.model_validate(summary).config == stored
    assert not (tmp_path / "run" / "control").exists()


def _hit_fraction(summary: dict[str, Any]) -> float:
    epochs = [epoch for rank in summary["ranks"] for epoch in rank["epochs"]]
    hits = sum(epoch["rows"]["hits"] for epoch in epochs)
    return float(hits / summary["remote_rows"])


def test_stock_and_rudder_learn_alike(tiny_parts: Path, tmp_path: Path) -> None:
    accuracies = []
    for loader in ("stock", "rudder"):
        folder = tmp_path / loader
        folder.mkdir()
        summary = train(tiny_parts, folder, "--loader", loader, "--epochs", "4")
        accuracies.append(summary["test_accuracy"])
        if loader == "stock":
            assert summary["hit_fraction"] is None
            assert summary["rows_fetched"] == summary["remote_rows"]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.03)


def test_several_trainers_share_a_host_with_the_policy_and_planner_of_a_package(
    tiny_parts: Path, tmp_path: Path, own_plugins: Path
) -> None:
    summary = train(
        tiny_parts, tmp_path, "--trainers-per-host", "2", "--servers-per-host", "2",
        "--epochs", "8", "--model", "gat", "--buffer", "2000", "--batch-size", "128",
        "--controller", "on", "--memory", "none", "--policy", "faded:50", "--planner", "doubling:1",
        env=os.environ | {"PYTHONPATH": str(own_plugins)},
    )  # fmt: skip
    with RunReader(tmp_path / "run" / "steering" / "rank0.db") as reader:
        (work,) = reader.workloads().values()
    assert (work.trainers_on_host, work.world_size) == (2, 4)
    machine_bytes = psutil.virtual_memory().total
    assert 4 * work.max_buffer_rows * work.row_bytes < 0.5 * machine_bytes
    assert [rank["rank"] for rank in summary["ranks"]] == [0, 1, 2, 3]
    assert {rank["settings"]["capacity_rows"] for rank in summary["ranks"]} == {2000}
    reports = [read_report(tmp_path / "run", rank) for rank in range(4)]
    assert {report.planner for report in reports if report} == {"own:doubling:1"}
    assert (work.policy, summary["policy"]) == ("faded:50", "faded:50")
    assert summary["versions"]["own-plugins"] == "0.1"
    assert all(rank["memory"]["buffer_rows"] == 2000 for rank in summary["ranks"])
    assert 0 < summary["hit_fraction"] < 1


def wait_for(path: Path, run: subprocess.Popen[str]) -> None:
    """Wait for a file that a run writes while it goes on."""

    def is_there() -> bool:
        assert path.exists() or run.poll() is None, run.communicate()
        return path.exists()

    until(is_there, within_s=2 * WAIT_SECONDS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--fanout", "5,x"), "it is a comma-separated list"),
        (("--buffer", "lots"), "a share of the halo (0.25), rows (20000) or bytes (64MiB)"),
        (("--epochs", "0"), "epochs = 0 is not allowed"),
        (("--num-layers", "3"), "num_layers is 3 but fanout names 2 layers"),
        (("--dataset", "synthetic:tinny"), "tiny"),
        (("--data", "nowhere"), "nowhere"),
        (("--config", "nothing.toml"), "there is no config file nothing.toml"),
        (("--rate", "fast"), "200mbit"),
    ],
)
def test_a_wrong_option_ends_in_one_clear_error(
    arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    done = rudder("train", *arguments, cwd=tmp_path, env=os.environ | {"RUDDER_DATA": "data"})
    assert done.returncode in (2, 3)
    assert says in done.stderr
    assert "what to do:" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_recorded_run_is_simulated_as_it_went(tiny_parts: Path, tmp_path: Path) -> None:
    summary = train(
        tiny_parts, tmp_path, "--epochs", "3", "--batch-size", "128", "--buffer", "0.25",
        "--record-trace",
    )  # fmt: skip
    done = rudder(
        "simulate", str(tmp_path / "run"), "--policies", "lookahead,lru", "--capacity", "0.25",
        "--picture", str(tmp_path / "rows.png"), "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["policy"]: row for row in json.loads(done.stdout)}
    missed = sum(
        epoch["rows"]["rows_fetched"]["miss"]
        for rank in summary["ranks"]
        for epoch in rank["epochs"]
    )
    # How fast the window grows at the start depends on the live run's timing.
    assert rows["lookahead"]["rows_fetched"] == pytest.approx(missed, rel=0.03)
    assert rows["lookahead"]["remote_rows"] == summary["remote_rows"]
    assert rows["opt"]["rows_fetched"] <= missed < rows["lru"]["rows_fetched"]
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")
