"""`rudder predict`: predictions of a trained model, as a Parquet file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from rudder.cli.options import AsJson, FolderOfRun, long_command
from rudder.cli.show import figures
from rudder.cli.show.progress import counting, emit, say
from rudder.training.checkpoint.reader import Which
from rudder.training.errors import ConfigError, DataError
from rudder.training.events import Event, PhaseEntered
from rudder.training.local_disk import can_replace
from rudder.training.model.predict import PROGRAM, Predictions, Split
from rudder.training.partitioned_graph import PartitionedGraph


@long_command
def predict(
    run: FolderOfRun,
    out: Annotated[Path, typer.Option(help="Parquet file to write.", show_default=False)],
    split: Annotated[Split, typer.Option(help="Which nodes.")] = "test",
    which: Annotated[Which, typer.Option(help="The best model of the run, or the last.")] = "best",
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Also write the last hidden layer of each node.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="Partitions; default: those of the run.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Write predictions of a trained model, inferred from all neighbours on the run's hosts.

    Example: rudder predict runs/tiny --split all --out predictions.parquet
    """
    from rudder.training.checkpoint.format import NEVER
    from rudder.training.checkpoint.reader import model_file, resumed_config, run_of
    from rudder.training.launch.run import launch
    from rudder.training.partition.prepare import data_of

    run_dir = run_of(run, name="run")
    model = model_file(run_dir, which)
    if not can_replace(out):
        raise ConfigError.for_field("out", value=str(out), allowed="a file in a folder that exists")
    config = resumed_config(
        run_dir, controller="none", record_trace=False, data=data, checkpoint_every=NEVER
    )
    graph = data_of(config, progress=say)
    _check(model, graph, embeddings=embeddings)
    what = Predictions(model=model, split=split, out=out.absolute(), embeddings=embeddings)
    scratch = Path(tempfile.mkdtemp(prefix="predict-", dir=run_dir))
    with counting("inferring", total=100, unit="percent") as advance:
        launch(
            config,
            graph=graph,
            run_dir=scratch,
            on_event=_Inferred(config.num_trainers, advance),
            program=PROGRAM,
            program_options=what.model_dump(mode="json"),
        )
    shutil.rmtree(scratch, ignore_errors=True)
    found = _summary(out)
    emit(found, _text(found), json=json)


class _Inferred:
    """Listens to the ranks, and tells what they have done together."""

    def __init__(self, num_ranks: int, advance: Callable[[int], None]) -> None:
        self._shares, self._advance, self._told = [0.0] * num_ranks, advance, 0

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event, PhaseEntered) and event.share is not None:
            self._shares[event.rank] = event.share
            percent = int(100 * sum(self._shares) / len(self._shares))
            self._advance(percent - self._told)
            self._told = percent


def _check(model: Path, graph: PartitionedGraph, *, embeddings: bool) -> None:
    """Raise where the model cannot take these features, or has no hidden layer."""
    from rudder.training.model.saved import read_card

    card = read_card(model)
    if card.in_dim != graph.feature_dim:
        raise DataError(
            f"the model takes {card.in_dim} features a node, but the graph has {graph.feature_dim}",
            remedy="use partitions with the features that the model was trained on",
        )
    if embeddings and card.options.num_layers == 1:
        raise ConfigError.for_field(
            "embeddings", value=True, allowed="only for a model of two layers and more"
        )


@dataclass(frozen=True)
class PredictionSummary:
    """What was written; accuracy: by split, where nodes have one class each."""

    out: str
    num_rows: int
    accuracy: dict[str, float]


def _summary(out: Path) -> PredictionSummary:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(out)
    accuracy: dict[str, float] = {}
    if not pyarrow.types.is_list(file.schema_arrow.field("prediction").type):
        rows = file.read(columns=["split", "label", "prediction"]).to_pandas()
        is_right = rows["label"] == rows["prediction"]
        shares = is_right.groupby(rows["split"]).mean()
        accuracy = {str(name): float(share) for name, share in shares.items()}
    return PredictionSummary(str(out), file.metadata.num_rows, accuracy)


def _text(found: PredictionSummary) -> str:
    shares = [f"{name} {figures.percent(share)}" for name, share in found.accuracy.items()]
    accuracy = f"; accuracy: {', '.join(shares)}" if shares else ""
    return f"{figures.count(found.num_rows)} predictions are in {found.out}{accuracy}"
