"""Writes the predictions of a trained model: the program of `rudder predict`.

Every rank infers its own nodes; rank 0 collects the rows, a bounded number at a time, and writes
one Parquet file. Columns: node_id, split, label, prediction, probability and, if wanted, embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rudder.training.errors import ConfigError
from rudder.training.events import Emit, PhaseEntered, Reported
from rudder.training.job import Job
from rudder.training.local_disk import replacing
from rudder.training.machine import peak_rss_bytes
from rudder.training.manifest import LABEL, NODE_IDS
from rudder.training.metrics import Memory, RankReport
from rudder.training.settings import Frozen

if TYPE_CHECKING:
    from torch import Tensor

    from rudder.training.model.saved import ModelCard

PROGRAM = "rudder.training.model.predict"
Split = Literal["train", "val", "test", "all"]
SPLITS = ("train", "val", "test", "none")
"""What the column `split` says; a node of no split has the last one."""
_ROWS_AT_ONCE = 2**18


class Predictions(Frozen):
    """What is to be written; the program's options."""

    model: Path
    split: Split
    out: Path
    embeddings: bool = False


def start_controllers(job: Job, *, rank: int) -> None:
    """There are none."""


def run(job: Job, *, rank: int, emit: Emit) -> None:
    """Be trainer `rank`: connect, infer, hand over."""
    from rudder.training.trainer import ProgressSignal, join_job, leave

    graph = join_job(job, rank)
    for phase in ("connected", "training"):
        emit(PhaseEntered(role="trainer", rank=rank, phase=phase))
    predictor = _Predictor(job, graph)
    emit(_evaluating(rank, 0.0))
    alive = ProgressSignal(lambda: emit(_evaluating(rank, predictor.share)))
    predictor.run(on_progress=alive.beat)
    host = job.host_of(rank)
    memory = Memory(peak_rss_bytes=peak_rss_bytes())
    emit(Reported(report=RankReport(rank=rank, host=host, epochs=(), memory=memory)))
    leave()


def _evaluating(rank: int, share: float) -> PhaseEntered:
    return PhaseEntered(role="trainer", rank=rank, phase="evaluating", share=share)


def _predicted(outputs: Tensor, card: ModelCard) -> dict[str, Tensor]:
    """Numbers, or classes with their probability."""
    if card.task == "regression":
        return {"prediction": outputs.squeeze(1)}
    if card.multilabel:
        return {"prediction": outputs > 0, "probability": outputs.sigmoid()}
    return {"prediction": outputs.argmax(1), "probability": outputs.softmax(1).amax(1)}


class _Predictor:
    """One rank's nodes, from inference to the file; share: of the inference that is done."""

    def __init__(self, job: Job, graph: Any) -> None:
        import torch

        from rudder.training.distdgl import view_of
        from rudder.training.model.saved import load_model, read_card
        from rudder.training.model.shard import Collectives

        self.share = 0.0
        self._what = Predictions.model_validate(job.program_options)
        self._graph, self._first = graph, view_of(graph).first
        self._device = torch.device(job.config.device)
        self._model = load_model(self._what.model).to(self._device)
        self._card = read_card(self._what.model)
        self._collectives = Collectives(self._device)
        path = job.graph.directory / NODE_IDS
        self._node_ids = np.load(path, mmap_mode="r") if path.exists() else None

    def run(self, *, on_progress: Callable[[], None]) -> None:
        """Infer, and write; on_progress: called now and then."""
        splits = self._splits()
        wanted = splits == SPLITS.index(self._what.split) if self._what.split != "all" else None
        columns = self._infer(splits, wanted, on_progress)
        size = max(self._collectives.gather(len(columns["node_id"])))
        with self._writer() as write:
            for start in range(0, size, _ROWS_AT_ONCE):
                part = {name: rows[start : start + _ROWS_AT_ONCE] for name, rows in columns.items()}
                write(self._collected(part))
                on_progress()

    def _splits(self) -> Tensor:
        """int8[inner nodes]: a place in SPLITS; a node of none has the last one."""
        import torch

        from rudder.training.model.inference import local_rows

        masks = [local_rows(self._graph, f"{name}_mask").bool() for name in SPLITS[:-1]]
        splits = torch.full((len(masks[0]),), len(SPLITS) - 1, dtype=torch.int8)
        for place, mask in enumerate(masks):
            splits[mask] = place
        return splits

    def _infer(
        self, splits: Tensor, wanted: Tensor | None, on_progress: Callable[[], None]
    ) -> dict[str, Tensor]:
        import torch

        from rudder.training.model.inference import infer_nodes, layers_of, local_rows

        wanted = torch.ones_like(splits, dtype=torch.bool) if wanted is None else wanted
        passes = 2 if self._what.embeddings else 1

        def note(share: float, *, before: int = 0) -> None:
            self.share = (before + share) / passes
            on_progress()

        found = infer_nodes(
            self._graph, self._model, wanted=wanted, device=self._device, on_progress=note
        )
        ids = found.nodes + self._first
        if self._node_ids is not None:
            ids = torch.from_numpy(np.asarray(self._node_ids[ids.numpy()], dtype=np.int64))
        columns = {
            "node_id": ids,
            "split": splits[found.nodes],
            "label": local_rows(self._graph, LABEL)[found.nodes],
            **_predicted(found.rows, self._card),
        }
        if self._what.embeddings:
            if layers_of(self._model) is None:
                raise ConfigError.for_field(
                    "embeddings",
                    value=True,
                    allowed="only for a model that runs layer by layer",
                    remedy="give your model `forward_layer`, as docs/own-model.md describes",
                )
            before = infer_nodes(
                self._graph,
                self._model,
                wanted=wanted,
                device=self._device,
                num_layers=self._model.num_layers - 1,
                on_progress=partial(note, before=1),
            )
            columns["embedding"] = before.rows
        return columns

    def _collected(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        """All ranks' rows on rank 0, none elsewhere."""
        others = [0] * (self._collectives.num_ranks - 1)
        return {
            name: self._collectives.swap(rows.contiguous(), [len(rows), *others])[0]
            for name, rows in columns.items()
        }

    @contextmanager
    def _writer(self) -> Iterator[Callable[[dict[str, Tensor]], None]]:
        """Writes rows on rank 0; the file is there when all of them are written."""
        if self._collectives.rank != 0:
            yield lambda columns: None
            return
        import pyarrow.parquet

        with replacing(self._what.out) as unfinished, ExitStack() as stack:
            files: list[Any] = []

            def write(columns: dict[str, Tensor]) -> None:
                table = as_table(columns)
                if not files:
                    writer = pyarrow.parquet.ParquetWriter(unfinished, table.schema)
                    files.append(stack.enter_context(writer))
                files[0].write_table(table)

            yield write


def as_table(columns: dict[str, Tensor]) -> Any:
    """Tensors as a table of pyarrow: several numbers a row become a list."""
    import pyarrow

    arrays = {}
    for name, rows in columns.items():
        values = rows.numpy()
        if name == "split":
            keys = pyarrow.array(values)
            arrays[name] = pyarrow.DictionaryArray.from_arrays(keys, list(SPLITS)).cast("string")
        elif values.ndim == 1:
            arrays[name] = pyarrow.array(values)
        elif values.dtype == np.bool_:  # the classes of a node with several
            offsets = np.concatenate([[0], np.cumsum(values.sum(1))]).astype(np.int32)
            arrays[name] = pyarrow.ListArray.from_arrays(offsets, np.nonzero(values)[1])
        else:
            flat = pyarrow.array(values.reshape(-1))
            arrays[name] = pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pyarrow.table(arrays)
