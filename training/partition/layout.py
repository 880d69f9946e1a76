"""DistDGL's JSON of a partitioned graph and the files that it names, whoever wrote them.

DGL's `partition_graph` writes `GRAPH.json`; the chunked (ParMETIS) pipeline and
GraphStorm write `metadata.json`, with named types and canonical edge types.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from rudder.training.errors import JSON_ERRORS, DataError
from rudder.training.settings import Frozen

_CUT_AGAIN = "cut the graph again with `rudder prepare` or DGL's partition_graph"
IdRange = tuple[int, int]


class PartFiles(Frozen):
    """The files of one part, relative to the JSON."""

    node_feats: str
    edge_feats: str
    part_graph: str | None = None
    part_graph_graphbolt: str | None = None


class Layout(Frozen):
    """What is read of the JSON, of a graph with one type of nodes and one of edges."""

    graph_name: str = Field(min_length=1)
    num_nodes: int = Field(ge=1)
    num_edges: int = Field(ge=0)
    num_parts: int = Field(ge=1)
    node_map: tuple[IdRange, ...]
    edge_map: tuple[IdRange, ...]
    node_type: str
    edge_type: str
    parts: tuple[PartFiles, ...]

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, content: Any) -> Any:
        """From the JSON, where parts are numbered keys and maps are by type."""
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        num_parts = content.get("num_parts")
        if not isinstance(num_parts, int):
            raise ValueError("it has no num_parts")
        missing = next((k for k in range(num_parts) if f"part-{k}" not in content), None)
        if missing is not None:
            raise ValueError(f"it has {num_parts} parts but no part-{missing}")
        maps = {name: _only(content, name) for name in ("node_map", "edge_map")}
        return {
            **content,
            **{name: ranges for name, (_, ranges) in maps.items()},
            "node_type": maps["node_map"][0],
            "edge_type": maps["edge_map"][0],
            "parts": [content[f"part-{part}"] for part in range(num_parts)],
        }

    @model_validator(mode="after")
    def _check_maps(self) -> Layout:
        for name, ranges, total in (
            ("node_map", self.node_map, self.num_nodes),
            ("edge_map", self.edge_map, self.num_edges),
        ):
            starts = [first for first, _ in ranges]
            if len(ranges) != self.num_parts or [*starts, total] != [0, *(e for _, e in ranges)]:
                raise ValueError(f"its {name} does not divide 0 to {total} among {self.num_parts}")
        return self

    @property
    def file_names(self) -> list[str]:
        """All files of all parts, relative to the JSON."""
        return [name for part in self.parts for name in part.model_dump().values() if name]

    @classmethod
    def read(cls, path: Path) -> Layout:
        """Read the JSON; raises DataError if this version of DGL cannot use it, and says why."""
        try:
            content = json.loads(path.read_text())
            _refuse_other_kinds(path, content)
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            what = first["msg"].removeprefix("Value error, ")
            problem = f"{where}: {what}" if where else what
        except JSON_ERRORS as error:
            problem = str(error)
        raise DataError(f"{path} cannot be used: {problem}", remedy=_CUT_AGAIN) from None


def _only(content: dict[str, Any], name: str) -> tuple[str, Any]:
    """The one type of a map and its ranges; old files have the ranges alone."""
    ranges = content.get(name)
    default = {"node_map": "_N", "edge_map": "_N:_E:_N"}[name]
    return next(iter(ranges.items())) if isinstance(ranges, dict) and ranges else (default, ranges)


def _refuse_other_kinds(path: Path, content: Any) -> None:
    """Graphs that DGL 2.1 or Rudder's loader does not know."""
    if not isinstance(content, dict):
        return
    types = {
        name: list(found) if isinstance(found := content.get(name), dict) and found else ["one"]
        for name in ("ntypes", "etypes")
    }
    if any(len(names) > 1 for names in types.values()):
        raise DataError(
            f"{path} has node types {types['ntypes']} and edge types {types['etypes']}; allowed:"
            " one of each (Rudder's loader does not know heterogeneous graphs yet)",
            remedy="cut a graph of one type, or train with dgl.dataloading.DistNodeDataLoader",
        )
    if isinstance(content.get("node_map"), str):
        raise DataError(
            f"{path} keeps its node map in a file, as DGL did when it left ids as they were;"
            " DGL 2.1 cannot read that",
            remedy=_CUT_AGAIN,
        )
    if [name for name in types["etypes"] if name != "one" and name.count(":") != 2]:
        raise DataError(
            f"{path} names its edge type {types['etypes'][0]!r}; DGL 2.1 reads SOURCE:EDGE:TARGET",
            remedy="convert it with tools/change_etype_to_canonical_etype.py of the DGL sources",
        )
    part = content.get("part-0")
    if isinstance(part, dict) and "part_graph" not in part and "part_graph_graphbolt" in part:
        raise DataError(
            f"{path} has GraphBolt's form of each part only; Rudder's loader reads graph.dgl",
            remedy="cut the graph again without use_graphbolt=True; parts with both forms are fine",
        )


def find_part_config(data: Path) -> Path:
    """The JSON of a partitioned graph, given itself or as its folder; raises DataError."""
    if data.is_file():
        return data
    if not data.is_dir():
        raise DataError(f"there is no {data}", remedy="check the path given to --data")
    found = [path for path in sorted(data.glob("*.json")) if _is_part_config(path)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise DataError(
            f"{data} holds several partitioned graphs: {names}", remedy="give --data one of these"
        )
    raise DataError(
        f"{data} holds no partitioned graph (it has no JSON with graph_name and part-0)",
        remedy=f"run `rudder prepare DATASET --parts N --out {data}`, or give the folder that"
        " DGL's partition_graph wrote",
    )


def _is_part_config(path: Path) -> bool:
    try:
        content = json.loads(path.read_text())
    except JSON_ERRORS:
        return False
    return isinstance(content, dict) and {"graph_name", "part-0"} <= content.keys()


def plain_name(key: str) -> str:
    """A tensor's name without its type, with which DGL stores it."""
    return re.sub(r"^.*/", "", key)
