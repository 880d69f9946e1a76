"""Finds what a run has left, before any process is started: checkpoints, and its model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rudder.training.checkpoint.format import (
    FOLDER,
    CheckpointManifest,
    Identity,
    checkpoints_of,
    read_manifest,
)
from rudder.training.config import CONFIG_FILE, RunConfig, run_config
from rudder.training.errors import ConfigError, DataError
from rudder.training.partitioned_graph import PartitionedGraph

MODEL_FOLDER = "model"
"""In the folder of a run: its model (rudder.training.model.saved)."""
Which = Literal["best", "last"]


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint."""

    folder: Path
    manifest: CheckpointManifest


def run_of(place: Path, *, name: str = "resume") -> Path:
    """The folder of the run that an option names: itself, or the run of a checkpoint in it.

    name: of the option, for the ConfigError where there is no run.
    """
    run_dir = place.parent.parent if place.parent.name == FOLDER else place
    if not (run_dir / CONFIG_FILE).is_file():
        raise ConfigError.for_field(
            name,
            value=str(place),
            allowed=f"the folder of a run (with {CONFIG_FILE}), or one of its checkpoints",
            remedy="see what there is: `ls runs`",
        )
    return run_dir


def resumed_config(run_dir: Path, /, **changes: object) -> RunConfig:
    """The configuration of a run that goes on; changes: those that are not None win.

    Raises ConfigError as `run_config`.
    """
    return run_config(run_dir / CONFIG_FILE, **{**changes, "run_dir": run_dir.absolute()})


def find_checkpoint(place: Path, config: RunConfig, graph: PartitionedGraph) -> Checkpoint:
    """The checkpoint that `place` names, or the newest one of the run that it names.

    Raises DataError, which says why it cannot be used, and names the next older one that can.
    """
    identity = Identity.of(config, graph)
    folders = checkpoints_of(run_of(place))
    if place.parent.name == FOLDER:
        folders = [place, *[each for each in folders if each.name < place.name]]
    if not folders:
        raise DataError(
            f"{place} has no checkpoint",
            remedy="start the run again, in another folder; --checkpoint-every says when the first"
            " checkpoint is written",
        )
    try:
        return _usable(folders[0], identity)
    except DataError as error:
        older = next((each for each in folders[1:] if _is_usable(each, identity)), None)
        if older is None:
            raise
        remedy = f"go on from the one before it: rudder train --resume {older}"
        raise DataError(error.message, remedy=remedy) from None


def newest_checkpoint(
    run_dir: Path, config: RunConfig, graph: PartitionedGraph
) -> Checkpoint | None:
    """The newest checkpoint of a run that can be used; None where there is none."""
    identity = Identity.of(config, graph)
    folders = checkpoints_of(run_dir)
    found = next((each for each in folders if _is_usable(each, identity)), None)
    return None if found is None else _usable(found, identity)


def _usable(folder: Path, identity: Identity) -> Checkpoint:
    manifest = read_manifest(folder)
    if difference := manifest.identity.difference(identity):
        raise DataError(
            f"{folder} cannot be gone on from: {difference}",
            remedy="use what the run began with, or start a new run",
        )
    return Checkpoint(folder, manifest)


def _is_usable(folder: Path, identity: Identity) -> bool:
    try:
        _usable(folder, identity)
    except DataError:
        return False
    return True


def model_file(place: Path, which: str = "best") -> Path:
    """The weights' file that `place` names: itself, or the best or last one of a run.

    Raises ConfigError where there is none.
    """
    if which not in get_args(Which):
        raise ConfigError.for_field("which", value=which, allowed=" or ".join(get_args(Which)))
    name = f"{which}.safetensors"
    path = place if place.suffix == ".safetensors" else place / MODEL_FOLDER / name
    if not path.is_file():
        raise ConfigError.for_field(
            "run",
            value=str(place),
            allowed=f"the folder of an evaluated run (with {MODEL_FOLDER}/{name}), or such a file",
            remedy="a run writes its model after each evaluation; --eval-every says when",
        )
    return path
