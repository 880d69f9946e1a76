"""`rudder data`: what partitions hold, and checksums for those that have none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rudder.cli.options import AsJson, settings, with_options
from rudder.cli.show.data import as_text
from rudder.cli.show.progress import emit, say
from rudder.training.config import run_config
from rudder.training.partition.statistics import measure_partitions, write_checksums

_NAMES = ("feature", "label", "train_mask", "valid_mask", "test_mask", "edge_weight", "task")


@with_options(settings(*_NAMES))
def data(
    where: Annotated[
        Path, typer.Argument(help="Partitions: a folder, or DistDGL's JSON.", show_default=False)
    ],
    *,
    checksums: Annotated[
        bool,
        typer.Option(
            "--write-checksums",
            help="Write checksums of partitions that others wrote; runs compare them from then on.",
        ),
    ] = False,
    json: AsJson = False,
    **names: Any,
) -> None:
    """Show sizes, cut, halo, splits, features and labels of partitions, whoever wrote them.

    Example: rudder data data/products
    """
    choice = run_config(**names).tensor_names
    if checksums:
        contents = write_checksums(where)
        say(f"wrote checksums of {len(contents.files):,} files")
    found = measure_partitions(where, choice, progress=say)
    emit(found, as_text(found), json=json)
