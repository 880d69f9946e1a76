"""`rudder bench epochs` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from rudder.agents.controller.report import read_reports
from rudder.bench.harm import HarmReport
from rudder.bench.results import BenchReport
from rudder.bench.variants import Grid
from tests.waiting import RUN_SECONDS, WAIT_SECONDS

pytestmark = pytest.mark.distributed
RUDDER = Path(sys.executable).parent / "rudder"


def test_variants_take_turns_in_one_job(tiny_parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [str(RUDDER), "bench", "epochs", "--data", str(tiny_parts), "--variants",
         "stock,lookahead,none:lookahead=4", "--floor", "--repeats", "1", "--epochs-per-turn", "2",
         "--batch-size", "128", "--out", str(out), "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=RUN_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((out / "bench.json").read_text())
    report = BenchReport.model_validate_json(done.stdout)
    results = {result.variant: result for result in report.of_rate("none")}
    assert list(results) == ["stock", "lookahead", "none:lookahead=4", "floor"]
    assert results["stock"].speedup_vs_stock == 1.0
    assert results["stock"].rows_fetched == results["stock"].remote_rows
    assert results["lookahead"].rows_fetched < 0.7 * results["lookahead"].remote_rows
    assert results["floor"].bytes_fetched == 0
    for result in results.values():
        assert 0 < result.epoch_seconds.min <= result.epoch_seconds.max
        assert result.breakdown.compute > 0
    assert (out / "bench.png").exists()
    assert "repeat 1/1, floor" in done.stderr


def bench(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(RUDDER), "bench", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=RUN_SECONDS)


def test_only_a_variant_whose_controller_is_on_is_steered(tiny_parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = bench(
        tmp_path, "epochs", "--data", str(tiny_parts), "--repeats", "1", "--epochs-per-turn", "5",
        "--variants", "lookahead:buffer=0.1,lookahead:buffer=0.1+controller=on+planner=fixed",
        "--batch-size", "64", "--out", str(out), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = BenchReport.model_validate_json(done.stdout)
    for result in report.results:
        assert [len(epochs) for epochs in result.epochs_of_turns] == [5, 5]
        assert result.rows_fetched < result.remote_rows
    variants = out / "rate-none" / "variants"
    assert [folder.name for folder in variants.iterdir()] == ["1"]
    assert [each.counts.applied for each in read_reports(variants / "1")] == [0, 0]


def test_a_grid_names_its_best_point(tiny_parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = bench(
        tmp_path, "grid", "--data", str(tiny_parts), "--capacity", "0.05,0.5", "--lookahead",
        "0,16", "--repeats", "1", "--epochs-per-turn", "1", "--out", str(out), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = BenchReport.model_validate_json(done.stdout)
    assert report == BenchReport.model_validate_json((out / "bench.json").read_text())
    found = {each.variant: each for each in report.results}
    grid = Grid(capacities=("0.05", "0.5"), lookaheads=(0, 16))
    assert found.keys() == {each.text for each in grid.variants}
    small, large = found[grid.variant("0.05", 16).text], found[grid.variant("0.5", 16).text]
    assert large.rows_fetched < small.rows_fetched
    assert report.best.epoch_seconds.median == min(
        each.epoch_seconds.median for each in report.results
    )


def test_harm_is_measured_beside_the_same_start(tiny_parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = bench(
        tmp_path, "harm", "--dataset", "synthetic:tiny", "--rate", "none", "--repeats", "2",
        "--start", "buffer=0.1", "--epochs-per-turn", "4", "--out", str(out), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = HarmReport.model_validate_json(done.stdout)
    assert report == HarmReport.model_validate_json((out / "harm.json").read_text())
    assert report.is_complete
    (case,) = report.cases
    assert (case.dataset, case.rate, len(case.speeds)) == ("synthetic:tiny", "none", 2)
    assert case.interval.low <= case.speed <= case.interval.high
    assert case.core is not None
    assert case.core < 1
    assert case.cpu > 0


@pytest.mark.parametrize("victim", ["launcher, SIGTERM", "launcher, SIGKILL", "trainer, SIGKILL"])
def test_a_benchmark_that_is_killed_keeps_its_turns(
    victim: str, tiny_parts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = {"data": tiny_parts, "variants": "lookahead,none", "repeats": 500,
               "epochs-per-turn": 1, "out": out}  # fmt: skip
    command = [str(RUDDER), "bench", "epochs", *(f"--{k}={v}" for k, v in options.items())]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as bench:
        assert bench.stderr is not None
        assert any("repeat 2/500" in line for line in bench.stderr)
        who, _, name = victim.partition(", ")
        pid = bench.pid if who == "launcher" else a_trainer_of(bench.pid)
        os.kill(pid, signal.Signals[name])
        printed, _ = bench.communicate(timeout=WAIT_SECONDS)
    assert bench.returncode != 0
    report = BenchReport.model_validate_json((out / "bench.json").read_text())
    assert [result.variant for result in report.results] == ["lookahead", "none"]
    assert 5 <= report.turns_done < report.turns_planned == 1002
    if victim != "launcher, SIGKILL":
        assert f"stopped after {report.turns_done} of 1002 turns" in " ".join(printed.split())


def a_trainer_of(launcher: int) -> int:
    for process in psutil.Process(launcher).children(recursive=True):
        with suppress(psutil.Error):
            if process.environ().get("DGL_ROLE") == "client":
                return process.pid
    raise AssertionError("no trainer is running")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--variants", "nonsense"), "nonsense"),
        (("--variants", "stock,stock"), "different names"),
        (("--rate", "fast"), "200mbit"),
        (("--rate", "none", "--rate", "none"), "different rates"),
    ],
)
def test_a_wrong_option_ends_in_one_clear_error(
    arguments: tuple[str, ...], says: str, tiny_parts: Path, tmp_path: Path
) -> None:
    done = bench(tmp_path, "epochs", "--data", str(tiny_parts), *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
