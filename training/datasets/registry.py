"""From the name of a dataset to its graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rudder.training.datasets.checks import check_graph
from rudder.training.datasets.graph import Graph
from rudder.training.datasets.spec import DatasetSpec


def load_dataset(
    spec: str, *, seed: int, undirected: bool = False, progress: Callable[[str], None]
) -> Graph:
    """Load, check and, if asked, make undirected the graph that `spec` names.

    `seed` draws synthetic graphs and the splits of `debian`; files and public datasets bring
    their own splits. `progress` is told what happens.

    Raises ConfigError for an unknown name, DataError for a graph that cannot be used or had, and
    MachineError where a library is missing.
    """
    name = DatasetSpec.parse(spec)
    progress(f"loading {name}")
    graph = check_graph(replace(_load(name, seed=seed, progress=progress), name=str(name)))
    if undirected:
        progress("adding the reverse of every edge")
        graph = graph.with_reverse_edges()
    return graph


def _load(name: DatasetSpec, *, seed: int, progress: Callable[[str], None]) -> Graph:
    """Each branch imports its own loader: pandas, dgl and ogb take seconds to import."""
    match name.kind:
        case "synthetic":
            from rudder.training.datasets.synthetic import load_synthetic

            return load_synthetic(name.argument, seed=seed)
        case "debian":
            from rudder.training.datasets.debian import load_debian

            return load_debian(seed=seed, progress=progress)
        case "npz":
            from rudder.training.datasets.npz_file import load_npz

            return load_npz(Path(name.argument))
        case "csv":
            from rudder.training.datasets.csv_files import load_csv

            return load_csv(Path(name.argument))
        case "ogb":
            from rudder.training.datasets.public import load_ogb

            return load_ogb(name.argument, progress=progress)
        case "reddit" | "yelp":
            from rudder.training.datasets.public import load_dgl

            return load_dgl(name.kind, progress=progress)
        case _:
            raise AssertionError(f"DatasetSpec.parse let {name} through")
