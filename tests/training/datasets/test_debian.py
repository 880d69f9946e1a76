from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from rudder.training.datasets.checks import check_graph
from rudder.training.datasets.debian import (
    FEATURE_DIM,
    Package,
    graph_of,
    load_debian,
    read_packages,
)
from rudder.training.datasets.graph import Graph
from rudder.training.errors import DataError

DUMP = """\
Package: game
Version: 1.0-1
Depends: game-data (>= 1.0), libsound1:any | libnoise1, libc6 (>= 2.34)
Pre-Depends: init
Recommends: mail-agent
Description: Strategy game of ancient warfare
Tag: game::strategy, role::program,
 uitoolkit::sdl
Section: games

Package: game-data
Source: game (1.0-1)
Description: Strategy game (data files)
Section: games

Package: libsound1
Source: sound
Breaks: game-data (<< 0.5)
Suggests: not-in-the-lists
Description: Sound library
Section: libs

Package: postbox
Provides: mail-agent (= 1), other-agent
Description: Mail agent, naïve
Section: mail

Package: libc6
Source: glibc
Description: C library
Section: libs

Package: libc6
Version: 0.9 (an older one)
Section: oldlibs
"""


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "dump"
    path.write_text(DUMP)
    return path


def edges_by_name(graph: Graph, names: list[str]) -> set[tuple[str, str]]:
    return {(names[s], names[d]) for s, d in zip(graph.src, graph.dst, strict=True)}


def test_stanzas_are_read_with_their_continued_lines() -> None:
    packages = list(read_packages(DUMP.splitlines(keepends=True)))
    assert packages[0] == Package(
        name="game",
        source="game",
        section="games",
        text="strategy game of ancient warfare game::strategy, role::program, uitoolkit::sdl\n",
        relations=("game-data", "libsound1", "libnoise1", "libc6", "init", "mail-agent"),
        provides=(),
    )
    assert packages[1].source == "game"
    assert packages[3].provides == ("mail-agent", "other-agent")
    assert len(packages) == 6


def test_edges_point_from_what_a_package_names_and_between_siblings(dump: Path) -> None:
    graph = check_graph(load_debian(seed=0, progress=print, command=("cat", str(dump))))
    names = ["game", "game-data", "libsound1", "postbox", "libc6"]
    assert edges_by_name(graph, names) == {
        ("game-data", "game"),
        ("game", "game-data"),
        ("libsound1", "game"),
        ("libc6", "game"),
        ("postbox", "game"),
        ("game-data", "libsound1"),
    }


def test_labels_are_sections_and_the_first_version_of_a_package_counts(dump: Path) -> None:
    graph = load_debian(seed=0, progress=print, command=("cat", str(dump)))
    assert graph.num_classes == 3
    assert graph.labels.tolist() == [0, 0, 1, 2, 1]


def test_siblings_are_linked_without_cliques() -> None:
    family = [Package(f"p{i:03}", "one", "libs", "text", (), ()) for i in range(100)]
    graph = graph_of([*family, Package("q", "two", "libs", "text", (), ())], seed=0)
    degrees = np.bincount(graph.dst, minlength=101)
    assert degrees.max() == 6
    assert degrees[100] == 0


def test_features_are_equal_for_equal_texts_of_norm_one_and_the_same_in_every_process() -> None:
    texts = ["sound library", "library sound", "mail", ""]
    graph = graph_of(
        [Package(f"p{i}", "s", "x", text, (), ()) for i, text in enumerate(texts)], seed=0
    )
    assert graph.features.shape == (4, FEATURE_DIM)
    assert graph.features.dtype == np.float32
    np.testing.assert_array_equal(graph.features[0], graph.features[1])
    np.testing.assert_allclose(np.linalg.norm(graph.features, axis=1), [1, 1, 1, 0], rtol=1e-6)
    assert np.flatnonzero(graph.features[2]).tolist() == [zlib.crc32(b"mail") % FEATURE_DIM]


def test_splits_follow_the_seed() -> None:
    packages = [Package(f"p{i}", "s", f"x{i % 3}", "text", (), ()) for i in range(50)]
    one, same, other = (graph_of(packages, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.train_mask, same.train_mask)
    assert not np.array_equal(one.train_mask, other.train_mask)
    assert (one.train_mask.sum(), one.val_mask.sum(), one.test_mask.sum()) == (30, 10, 10)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("no-such-command-here",), "cannot be run"),
        (("false",), "exit code 1"),
        (("true",), "0 packages"),
    ],
)
def test_missing_apt_or_lists_say_what_to_do(command: tuple[str, ...], says: str) -> None:
    with pytest.raises(DataError, match=says) as refused:
        load_debian(seed=0, progress=print, command=command)
    assert "apt-get update" in refused.value.remedy
    assert "synthetic:" in refused.value.remedy


@pytest.mark.skipif(shutil.which("apt-cache") is None, reason="apt-cache is not installed")
def test_this_machines_packages_make_a_usable_graph() -> None:
    try:
        graph = check_graph(load_debian(seed=0, progress=print))
    except DataError as error:
        if "0 packages" in error.message:
            pytest.skip("apt has no lists here")
        raise
    if graph.num_nodes < 10_000:
        pytest.skip("apt's lists hold little more than what is installed")
    assert graph.num_classes > 30
    assert graph.num_edges > 4 * graph.num_nodes
