"""Trackers are told what a run measures, by a thread that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from rudder.cli.tracking import Sink, Tracker, check_trackers, tracking
from rudder.training.config import RunConfig, run_config
from rudder.training.errors import ConfigError
from rudder.training.events import EpochDone, Evaluated, Event
from rudder.training.metrics import Evaluation, Score
from tests.cli.show.test_display import progress
from tests.cli.show.test_summary import epoch

EVENTS: tuple[Event, ...] = (
    progress(1, step=32, capacity=500),
    EpochDone(rank=1, metrics=epoch(0)),
    Evaluated(
        evaluation=Evaluation(
            epoch=0, scores=(Score(name="accuracy", test=0.75, val=None),), seconds=1.0
        )
    ),
)


class Kept(Sink):
    """Keeps what it is told; may be slow, or fail."""

    def __init__(self, *, fails: bool = False) -> None:
        self.values: dict[tuple[str, int], float] = {}
        self.files: Sequence[Path] | None = None
        self.may_go = threading.Event()
        self.may_go.set()
        self._fails = fails

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        self.may_go.wait(20)
        if self._fails:
            raise OSError("no room")
        self.values |= {(name, step): value for name, value in values.items()}

    def event(self, text: str, *, step: int) -> None:
        raise AssertionError("nobody steers")

    def close(self, files: Sequence[Path]) -> None:
        self.files = files


def test_sinks_are_told_names_values_and_steps(tmp_path: Path) -> None:
    kept = Kept()
    tracker = Tracker({"kept": lambda: kept}, watch=None)
    for event in EVENTS:
        tracker.note(event)
    tracker.close([tmp_path])
    assert kept.values["rank1/capacity_rows", 32] == 500
    assert kept.values["rank1/step_ms", 32] == pytest.approx(50.0)
    assert kept.values["rank1/loss", epoch(0).num_steps] == 0.625
    assert kept.values["test/accuracy", 1] == 0.75
    assert ("validation/accuracy", 1) not in kept.values
    assert kept.files == [tmp_path]


def test_nobody_waits_for_a_slow_sink_and_a_broken_one_is_told_of_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    slow, broken = Kept(), Kept(fails=True)
    slow.may_go.clear()
    tracker = Tracker({"slow": lambda: slow, "broken": lambda: broken}, watch=None)
    for _ in range(11_000):
        tracker.note(EVENTS[0])
    assert tracker.num_dropped >= 900
    slow.may_go.set()
    tracker.close([])
    told = capsys.readouterr().err
    assert told.count("--track broken goes on no more: OSError: no room") == 1
    assert f"too slow for {tracker.num_dropped:,} measurements" in told
    assert slow.files == []
    assert broken.files is None


def test_a_tracker_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="mlflow, tensorboard, wandb"):
        check_trackers(["neptune"])
    with pytest.raises(ConfigError, match="track"):
        run_config(track="a,a")


def track(run: Path, name: str) -> None:
    (run / "summary.json").parent.mkdir(exist_ok=True)
    (run / "summary.json").write_text("{}")
    config = run_config(track=name, controller="none", memory="none")
    assert isinstance(config, RunConfig)
    with tracking(config, run) as note:
        for event in EVENTS:
            note(event)


def test_tensorboard_reads_what_was_tracked(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track(tmp_path / "run", "tensorboard")
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    tags = found.Tags()["tensors"]
    assert {"rank1/step_ms", "rank1/loss", "test/accuracy", "settings"} <= set(tags)
    (value,) = found.Tensors("rank1/capacity_rows")
    assert (value.step, value.tensor_proto.float_val[0]) == (32, 500.0)
    (text,) = found.Tensors("settings")
    assert b"| batch_size | 512 |" in text.tensor_proto.string_val[0]


def test_mlflow_has_what_was_tracked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    uri = (tmp_path / "mlruns").as_uri()
    track(tmp_path / "run", f"mlflow:{uri}")
    assert capsys.readouterr().out == ""  # of `rudder train --json` it is JSON
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("rudder")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "run"
    assert run.info.status == "FINISHED"
    assert run.data.params["batch_size"] == "512"
    (tmp_path / "run" / "error.txt").write_text("a trainer was killed")
    track(tmp_path / "run", f"mlflow:{uri}")
    found = client.search_runs([experiment.experiment_id])
    assert sorted(each.info.status for each in found) == ["FAILED", "FINISHED"]
    (metric,) = client.get_metric_history(run.info.run_id, "rank1/capacity_rows")
    assert (metric.step, metric.value) == (32, 500.0)
