"""`rudder prepare`: a graph in, DistDGL partitions out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rudder.cli.options import AsJson, long_command
from rudder.cli.show.progress import emit, stages
from rudder.training.partition.prepare import default_data_dir
from rudder.training.partition.prepare import prepare as prepare_parts


@long_command
def prepare(
    dataset: Annotated[
        str,
        typer.Argument(
            help="synthetic:NAME, debian, ogb:NAME, reddit, yelp, npz:PATH, csv:DIR or parquet:DIR",
            show_default=False,
        ),
    ],
    parts: Annotated[int, typer.Option(help="Partitions, one per host.", min=1)] = 2,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: in the user's cache.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the graph and of its partitioning.")] = 0,
    undirected: Annotated[bool, typer.Option(help="Add the reverse of every edge.")] = False,
    feature_dtype: Annotated[
        Literal["float32", "float16"], typer.Option(help="How features are stored and sent.")
    ] = "float32",
    method: Annotated[
        Literal["metis", "random"],
        typer.Option(help="METIS cuts few edges; random cuts many, and graphs of any size."),
    ] = "metis",
    json: AsJson = False,
) -> None:
    """Partition a graph for DistDGL; what is there already is used again.

    Example: rudder prepare synthetic:products-s --parts 4 --out data/products
    """
    out = out or default_data_dir(
        dataset, parts, seed, undirected=undirected, feature_dtype=feature_dtype, method=method
    )
    with stages() as stage:
        manifest = prepare_parts(
            dataset, num_parts=parts, out=out, seed=seed, undirected=undirected,
            feature_dtype=feature_dtype, method=method, progress=stage.tell, count=stage.count,
        )  # fmt: skip
    text = (
        f"{out}: {manifest.num_nodes:,} nodes, {manifest.num_edges:,} edges,"
        f" {manifest.num_parts} parts, {manifest.cut_fraction:.1%} of edges cut"
    )
    emit(manifest, text, json=json)
