"""TensorBoard, MLflow and Weights & Biases as sinks of a run; their libraries are extras."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rudder.cli.tracking import Sink, TrackedRun
from rudder.memory.run.run_folder import ERROR_FILE, SUMMARY_FILE


class _TensorBoard:
    """Event files, read by `tensorboard --logdir`; decisions are texts."""

    def __init__(self, folder: Path, run: TrackedRun) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder))
        self._text("settings", _as_table(run.settings), step=0)

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """One scalar a name."""
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        for name, value in values.items():
            self._add(scalar_pb(name, value), step)

    def event(self, text: str, *, step: int) -> None:
        """A text of the tag `decisions`."""
        self._text("decisions", text, step=step)

    def _text(self, tag: str, text: str, *, step: int) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(text_pb(tag, text), step)

    def _add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def close(self, files: Sequence[Path]) -> None:
        """Write what is left; the files stay where they are."""
        self._writer.close()


def tensorboard(argument: str, run: TrackedRun) -> Sink:
    """argument: folder for the event files; default: `tensorboard` in the run's folder."""
    return _TensorBoard(Path(argument) if argument else run.folder / "tensorboard", run)


_MLFLOW_BATCH = 100
"""Settings that MLflow takes in one request."""


class _Mlflow:
    """A run of the experiment `rudder`; decisions are lines of `decisions.txt`."""

    def __init__(self, uri: str, run: TrackedRun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient(uri or None)
        found = self._client.get_experiment_by_name("rudder")
        experiment = found.experiment_id if found else self._client.create_experiment("rudder")
        made = self._client.create_run(experiment, run_name=run.name)
        self._id, self._folder, self._decisions = made.info.run_id, run.folder, [""]
        settings = [Param(name, str(value)) for name, value in run.settings.items()]
        for start in range(0, len(settings), _MLFLOW_BATCH):
            self._client.log_batch(self._id, params=settings[start : start + _MLFLOW_BATCH])

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """In one request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            self._id, metrics=[Metric(name, value, now, step) for name, value in values.items()]
        )

    def event(self, text: str, *, step: int) -> None:
        """Kept until the end, as a file cannot be added to."""
        self._decisions.append(text)

    def close(self, files: Sequence[Path]) -> None:
        """Store the files as artifacts, and how the run ended."""
        self._client.log_text(self._id, "\n".join(self._decisions[1:]), "decisions.txt")
        for path in files:
            self._client.log_artifact(self._id, str(path))
        if (self._folder / ERROR_FILE).exists():
            state = "FAILED"
        else:
            state = "FINISHED" if (self._folder / SUMMARY_FILE) in files else "KILLED"
        with redirect_stdout(io.StringIO()):  # it prints addresses where results go
            self._client.set_terminated(self._id, state)


def mlflow(argument: str, run: TrackedRun) -> Sink:
    """argument: tracking URI; default: what MLflow's environment variables say."""
    return _Mlflow(argument, run)


class _Wandb:
    """A run of the project `rudder`; WANDB_MODE=offline keeps it on disk."""

    def __init__(self, project: str, run: TrackedRun) -> None:
        import wandb as library

        self._run: Any = library.init(
            project=project or "rudder", name=run.name, dir=run.folder, config=dict(run.settings)
        )
        self._run.define_metric("*", step_metric="steps")

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """`steps` is the axis, as ranks report in any order."""
        self._run.log({**values, "steps": step})

    def event(self, text: str, *, step: int) -> None:
        """A text in the history of the run."""
        self._run.log({"decision": text, "steps": step})

    def close(self, files: Sequence[Path]) -> None:
        """Upload the files."""
        for path in files:
            self._run.save(str(path), base_path=str(path.parent), policy="now")
        self._run.finish()


def wandb(argument: str, run: TrackedRun) -> Sink:
    """argument: name of the project; default: rudder."""
    return _Wandb(argument, run)


def _as_table(settings: Mapping[str, object]) -> str:
    rows = "".join(f"| {name} | {value} |\n" for name, value in settings.items())
    return f"| setting | value |\n| --- | --- |\n{rows}"
