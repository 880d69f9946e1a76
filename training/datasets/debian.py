"""A real graph without a download: the packages that this machine's apt lists know.

A node is a package, its label its section, its features the hashed words of its description and
tags. An edge points from what a package names (depends on, suggests, conflicts with, ...) to the
package itself, and both ways between packages of one source.
"""

from __future__ import annotations

import re
import subprocess
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rudder.training.datasets.graph import Graph, IntArray, random_split
from rudder.training.errors import DataError

DUMP_COMMAND = ("apt-cache", "dumpavail")
FEATURE_DIM = 128
SIBLING_REACH = 3
"""How many of the next packages of its source a package is linked to; no quadratic cliques."""
MAX_PROVIDERS = 2
"""How many providers of a virtual package are linked to."""

_RELATIONS = (
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Enhances",
    "Breaks",
    "Conflicts",
    "Replaces",
    "Provides",
)
_KEPT = frozenset(["Package", "Source", "Section", "Description", "Tag", *_RELATIONS])
_NAME = re.compile(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]+)")
_WORD = re.compile(r"[a-z][a-z0-9+-]+")
_REMEDY = (
    "run `apt-get update` (as root) on a Debian or Ubuntu machine, or use a dataset that needs "
    "nothing: synthetic:community-200k"
)


@dataclass(frozen=True)
class Package:
    """One package: `relations` are the names it refers to, `provides` its virtual names."""

    name: str
    source: str
    section: str
    text: str
    relations: tuple[str, ...]
    provides: tuple[str, ...]


def load_debian(
    *, seed: int, progress: Callable[[str], None], command: Sequence[str] = DUMP_COMMAND
) -> Graph:
    """Build the graph of all packages; `seed` draws the splits (60, 20, 20 %).

    Raises DataError where `command` is missing, fails or knows no package.
    """
    packages = _unique(read_packages(_lines(command)))
    if len(packages) < 3:
        raise DataError(f"apt's lists hold {len(packages)} packages", remedy=_REMEDY)
    progress(f"apt knows {len(packages):,} packages")
    return graph_of(packages, seed=seed)


def _lines(command: Sequence[str]) -> Iterator[str]:
    """Standard output of `command`, line by line."""
    try:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise DataError(f"{command[0]} cannot be run: {error.strerror}", remedy=_REMEDY) from None
    with process:
        assert process.stdout is not None
        yield from process.stdout
    if process.returncode != 0:
        raise DataError(
            f"`{' '.join(command)}` failed with exit code {process.returncode}", remedy=_REMEDY
        )


def read_packages(lines: Iterable[str]) -> Iterator[Package]:
    """Parse stanzas of control fields (deb-control(5)); what has no name is left out."""
    fields: dict[str, str] = {}
    field = ""
    for line in lines:
        if line[0] in " \t":
            if field:
                fields[field] += line
        elif line == "\n":
            yield from _package(fields)
            fields, field = {}, ""
        else:
            field, _, value = line.partition(":")
            field = field if field in _KEPT else ""
            if field:
                fields[field] = value.strip()
    yield from _package(fields)


def _package(fields: dict[str, str]) -> Iterator[Package]:
    name = fields.get("Package")
    if not name:
        return
    relations = [found for key in _RELATIONS for found in _NAME.findall(fields.get(key, ""))]
    yield Package(
        name=name,
        source=fields.get("Source", name).split(" ")[0],
        section=fields.get("Section", "unknown"),
        text=f"{fields.get('Description', '')} {fields.get('Tag', '')}".lower(),
        relations=tuple(relations),
        provides=tuple(_NAME.findall(fields.get("Provides", ""))),
    )


def _unique(packages: Iterable[Package]) -> list[Package]:
    """The first of each name: apt lists a package once per version and architecture."""
    by_name: dict[str, Package] = {}
    for package in packages:
        by_name.setdefault(package.name, package)
    return list(by_name.values())


def graph_of(packages: Sequence[Package], *, seed: int) -> Graph:
    """Turn packages into a graph; package i is node i."""
    sections = sorted({package.section for package in packages})
    class_of = {section: position for position, section in enumerate(sections)}
    src, dst = _edges(packages)
    rng = np.random.default_rng(seed)
    train, val, test = random_split(len(packages), train=0.6, val=0.2, test=0.2, rng=rng)
    return Graph(
        name="debian",
        src=src,
        dst=dst,
        features=_features([package.text for package in packages]),
        labels=np.array([class_of[package.section] for package in packages], dtype=np.int64),
        train_mask=train,
        val_mask=val,
        test_mask=test,
        num_classes=len(sections),
        source={"generator": " ".join(DUMP_COMMAND), "packages": len(packages)},
    )


def _edges(packages: Sequence[Package]) -> tuple[IntArray, IntArray]:
    """Each edge once, no loops; sorted."""
    named, namer = _relation_edges(packages)
    one, other = _sibling_edges(packages)
    src = np.concatenate([named, one, other])
    dst = np.concatenate([namer, other, one])
    keys = np.unique((src * len(packages) + dst)[src != dst])
    return keys // len(packages), keys % len(packages)


def _relation_edges(packages: Sequence[Package]) -> tuple[IntArray, IntArray]:
    nodes_of = {package.name: [node] for node, package in enumerate(packages)}
    virtual: dict[str, list[int]] = {}
    for node, package in enumerate(packages):
        for name in package.provides:
            if name not in nodes_of:
                virtual.setdefault(name, []).append(node)
    nodes_of.update({name: nodes[:MAX_PROVIDERS] for name, nodes in virtual.items()})
    named, namer = array("q"), array("q")
    for node, package in enumerate(packages):
        for name in package.relations:
            found = nodes_of.get(name, ())
            named.extend(found)
            namer.extend([node] * len(found))
    return np.array(named, dtype=np.int64), np.array(namer, dtype=np.int64)


def _sibling_edges(packages: Sequence[Package]) -> tuple[IntArray, IntArray]:
    """One direction of the edges between packages of one source, in the order of their names."""
    numbers = {source: i for i, source in enumerate({package.source for package in packages})}
    source = np.array([numbers[package.source] for package in packages], dtype=np.int64)
    by_name = np.argsort(np.array([package.name for package in packages]), kind="stable")
    order = by_name[np.argsort(source[by_name], kind="stable")]
    pairs = [(order[:-reach], order[reach:]) for reach in range(1, SIBLING_REACH + 1)]
    one = np.concatenate([first for first, _ in pairs])
    other = np.concatenate([second for _, second in pairs])
    same = source[one] == source[other]
    return one[same], other[same]


def _features(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Hashed words, weighted by how rare they are; float32 [N, FEATURE_DIM], rows of norm 1.

    Signed feature hashing (Weinberger et al. 2009, https://arxiv.org/abs/0902.2206); crc32 is
    the same in every process, which `hash` is not.
    """
    word_ids: dict[str, int] = {}
    row, word = array("q"), array("q")
    for node, text in enumerate(texts):
        found = {word_ids.setdefault(token, len(word_ids)) for token in _WORD.findall(text)}
        word.extend(sorted(found))
        row.extend([node] * len(found))
    rows, words = np.array(row, dtype=np.int64), np.array(word, dtype=np.int64)
    hashes = np.array([zlib.crc32(token.encode()) for token in word_ids], dtype=np.int64)
    rarity = np.log(len(texts) / np.bincount(words, minlength=len(word_ids)).clip(1)) + 1
    signed = np.where(hashes & (1 << 20), rarity, -rarity)[words]
    cells = np.bincount(
        rows * FEATURE_DIM + hashes[words] % FEATURE_DIM,
        weights=signed,
        minlength=len(texts) * FEATURE_DIM,
    ).reshape(len(texts), FEATURE_DIM)
    norms = np.linalg.norm(cells, axis=1, keepdims=True)
    unit = cells / np.where(norms > 0, norms, 1)
    return np.asarray(unit, dtype=np.float32)
