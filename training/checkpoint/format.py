"""What a checkpoint is: when one is due, which run it belongs to, which files it has.

    RUN/checkpoints/step-00001200/manifest.json    last to be written; names, sizes and checksums
                                  shared.pt        model, optimiser and so on, the same on all ranks
                                  rank0.pt ...     what only that rank knows

A folder whose name begins with a dot is not complete, and never read.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import JsonValue

from rudder.training.checksums import StoredFile, changed_files, check_seal
from rudder.training.errors import JSON_ERRORS, DataError
from rudder.training.manifest import read_contents
from rudder.training.model.own import OwnModel
from rudder.training.settings import Frozen
from rudder.training.versions import DISTRIBUTION, installed_version

if TYPE_CHECKING:
    from rudder.training.config import RunConfig
    from rudder.training.partitioned_graph import PartitionedGraph

FORMAT_VERSION = 1
FOLDER = "checkpoints"
MANIFEST = "manifest.json"
SHARED = "shared.pt"
INTERVAL_FORMS = "a time (10min, 90s, 2h), a number of epochs (2epochs), or none"
_INTERVAL = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|min|h|epochs?)$")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_VERSIONS = (DISTRIBUTION, "torch", "dgl", "numpy")

MAY_CHANGE = frozenset(
    (
        *("epochs", "eval_every", "device", "data", "run_dir", "record_trace", "start_timeout"),
        *("stall_timeout", "network", "rate", "port", "checkpoint_every", "keep_checkpoints"),
        *("launcher", "machines", "spare_hosts", "ssh", "remote_python", "allow_public_addresses"),
        *("max_restarts", "audit_key", "audit_anchor", "track"),
        *("policy", "buffer", "lookahead", "eviction_threshold", "replacement_interval", "alpha"),
        *("start", "score_faithful", "static_source", "controller", "planner", "planner_model"),
        *("planner_refit_every", "goal", "objective", "tolerance", "memory_budget", "schedule"),
        *("memory", "llm", "llm_model", "llm_roles", "llm_deadline", "llm_answer_tokens"),
        *("llm_extra", "llm_max_calls", "llm_max_tokens", "on_nan", "early_stop"),
    )
)
"""Settings that a resumed run may change: they decide neither batches nor model."""


class CheckpointInterval(Frozen):
    """How often a checkpoint is written; `unit` none: never, not even at the end."""

    amount: float = 0.0
    unit: Literal["seconds", "epochs", "none"]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one of the text forms; raises ValueError that names them."""
        if text.strip() == "none":
            return cls(unit="none")
        match = _INTERVAL.match(text.strip())
        if match is None or float(match[1]) <= 0:
            raise ValueError(f"it is {INTERVAL_FORMS}")
        amount, unit = float(match[1]), match[2]
        if unit in _SECONDS:
            return cls(amount=amount * _SECONDS[unit], unit="seconds")
        if not amount.is_integer():
            raise ValueError(f"epochs are a whole number; it is {INTERVAL_FORMS}")
        return cls(amount=amount, unit="epochs")

    def __str__(self) -> str:
        if self.unit == "none":
            return "none"
        if self.unit == "seconds" and self.amount % 60 == 0:
            return f"{self.amount / 60:.10g}min"
        return f"{self.amount:.10g}{'s' if self.unit == 'seconds' else 'epochs'}"

    def is_due(self, *, seconds: float, epochs: int) -> bool:
        """Whether so many seconds, or finished epochs, since the last checkpoint are enough."""
        past = {"seconds": seconds, "epochs": float(epochs), "none": -1.0}[self.unit]
        return past >= self.amount


NEVER = CheckpointInterval(unit="none")


class Identity(Frozen):
    """What has to be the same in a run that goes on from a checkpoint.

    data: digest of the graph's sizes and tensors, and of the checksums of its files where they are
    known; settings: those that decide batches and model; versions: of Rudder and of the training
    stack.
    """

    dataset: str
    data: str
    settings: dict[str, JsonValue]
    versions: dict[str, str]

    @classmethod
    def of(cls, config: RunConfig, graph: PartitionedGraph) -> Self:
        """The identity of a run of this configuration on this graph."""
        contents = read_contents(graph.directory)
        files = "" if contents is None else contents.model_dump_json(include={"files"})
        content = graph.model_dump_json(exclude={"part_config"}) + files
        settings = json.loads(config.model_dump_json(exclude={*MAY_CHANGE, "dataset"}))
        if own := OwnModel.parse(config.model):
            code = hashlib.sha256(own.file.read_bytes()).hexdigest()[:16]
            settings |= {"model": f"{own.file.name}:{own.name}", "model's code": code}
        return cls(
            dataset=graph.dataset,
            data=hashlib.sha256(content.encode()).hexdigest()[:16],
            settings=settings,
            versions={name: installed_version(name) or "" for name in _VERSIONS},
        )

    def difference(self, other: Identity) -> str | None:
        """What `other` has that a run with this identity cannot go on with, in words, or None."""
        if self.data != other.data:
            return f"it is of other data: {self.dataset!r}, and this is {other.dataset!r}"
        for kind, mine, theirs in (
            ("", self.settings, other.settings),
            ("the version of ", self.versions, other.versions),
        ):
            for name in sorted({*mine, *theirs}):
                if mine.get(name) != theirs.get(name):
                    return f"{kind}{name} is {mine.get(name)!r} in it, not {theirs.get(name)!r}"
        return None


class CheckpointManifest(Frozen):
    """What makes a folder a checkpoint. epoch, batch: of the next step; step: done so far."""

    format_version: int = FORMAT_VERSION
    epoch: int
    batch: int
    step: int
    num_ranks: int
    identity: Identity
    files: tuple[StoredFile, ...]


class Written(Frozen):
    """What became of a checkpoint; error: why there is none, or None."""

    name: str
    epoch: int
    batch: int
    step: int
    num_bytes: int = 0
    seconds: float = 0.0
    error: str | None = None


def name_of(step: int) -> str:
    """The folder of the checkpoint after so many steps."""
    return f"step-{step:08d}"


def rank_file(rank: int) -> str:
    """The file of one rank."""
    return f"rank{rank}.pt"


def checkpoints_of(run_dir: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return sorted((run_dir / FOLDER).glob("step-*"), reverse=True)


def read_manifest(folder: Path) -> CheckpointManifest:
    """The manifest of a checkpoint whose files are all there as they were written.

    Raises DataError that says what is wrong.
    """
    try:
        content = dict(json.loads((folder / MANIFEST).read_text()))
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise _broken(folder, f"it has format {version!r}; this version reads {FORMAT_VERSION}")
        check_seal(content)
        manifest = CheckpointManifest.model_validate(content)
    except OSError as error:
        raise _broken(folder, f"{MANIFEST}: {error.strerror}") from None
    except JSON_ERRORS:
        raise _broken(folder, f"its {MANIFEST} is damaged") from None
    for file in manifest.files:
        if (problem := file.size_problem(folder)) is not None:
            raise _broken(folder, f"{file.path}{problem}")
    try:
        for file, _ in changed_files(folder, manifest.files):
            raise _broken(folder, f"{file.path} is not as it was written")
    except OSError as error:
        raise _broken(folder, f"{error.filename}: {error.strerror}") from None
    return manifest


def _broken(folder: Path, reason: str) -> DataError:
    return DataError(
        f"{folder} is no complete checkpoint: {reason}",
        remedy="restore it, or train anew in another folder",
    )
