from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import dgl.distributed
import numpy as np
import pytest

from rudder.training.datasets.checks import check_graph
from rudder.training.datasets.graph import Graph
from rudder.training.datasets.synthetic import Preset, draw_graph
from rudder.training.errors import ConfigError, DataError
from rudder.training.manifest import FeatureDtype, Manifest, Recipe
from rudder.training.partition.worker import write_partitions

pytestmark = pytest.mark.filterwarnings(
    # dgl.partition.get_peak_mem opens this file and leaves it to the garbage collector.
    "ignore:unclosed file .*/proc/self/status:ResourceWarning"
)

PRESET = Preset(600, 12, 8, 4, 0.3, 0.1, 0.2, num_communities=8, num_phases=4)
IN_A_SMALL_DISK = """
import sys
from pathlib import Path
from rudder.training.datasets.synthetic import Preset, draw_graph
from rudder.training.errors import MachineError
from rudder.training.manifest import Recipe
from rudder.training.partition.worker import write_partitions

disk, full_at = Path(sys.argv[1]), sys.argv[2]

def progress(text):
    if text.startswith(full_at):
        try:
            (disk / "other").write_bytes(b"x" * 2**24)
        except OSError:
            pass

graph = draw_graph(Preset(2000, 10, 64, 4, 0.3, 0.1, 0.2, num_communities=8), name="x", seed=0)
directory = disk / "parts"
directory.mkdir()
recipe = Recipe(dataset="synthetic:tiny", num_parts=2)
try:
    write_partitions(graph, recipe, directory, progress=progress)
except MachineError as error:
    print("MachineError:", error.message)
    print((directory / "manifest.json").exists())
"""


def make_graph() -> Graph:
    """A graph whose first feature is the node's own id, exact in float16."""
    graph = draw_graph(PRESET, name="small", seed=1)
    features = graph.features.copy()
    features[:, 0] = np.arange(graph.num_nodes)
    return check_graph(replace(graph, features=features))


def recipe(num_parts: int, dtype: FeatureDtype = "float32") -> Recipe:
    return Recipe(dataset="synthetic:tiny", num_parts=num_parts, feature_dtype=dtype)


def write(graph: Graph, folder: Path, how: Recipe) -> Manifest:
    folder.mkdir()
    return write_partitions(graph, how, folder, progress=lambda text: None)


def load(manifest: Manifest, folder: Path, part: int) -> tuple[Any, dict[str, Any]]:
    config = str(manifest.part_config(folder))
    structure, node_data, *_ = dgl.distributed.load_partition(config, part)
    return structure, {name.removeprefix("_N/"): data.numpy() for name, data in node_data.items()}


@pytest.mark.parametrize(("num_parts", "dtype"), [(1, "float32"), (2, "float16"), (3, "float32")])
def test_every_node_keeps_its_data_in_some_part(
    tmp_path: Path, num_parts: int, dtype: FeatureDtype
) -> None:
    graph = make_graph()
    manifest = write(graph, tmp_path / "out", recipe(num_parts, dtype))
    seen: list[int] = []
    for part in range(num_parts):
        _, data = load(manifest, tmp_path / "out", part)
        ids = data["feat"][:, 0].astype(np.int64)
        assert data["feat"].dtype == dtype
        np.testing.assert_array_equal(data["feat"], graph.features[ids].astype(dtype))
        np.testing.assert_array_equal(data["label"], graph.labels[ids])
        np.testing.assert_array_equal(data["seed_phase"], graph.seed_phase[ids])  # type: ignore[index]
        for name, mask in graph.masks.items():
            np.testing.assert_array_equal(data[name].astype(np.bool_), mask[ids])
        seen.extend(ids.tolist())
    assert sorted(seen) == list(range(graph.num_nodes))


@pytest.mark.parametrize("directed", [False, True])
def test_the_manifest_counts_what_distdgl_finds(tmp_path: Path, directed: bool) -> None:
    graph = make_graph()
    if directed:
        half = graph.src < graph.dst
        graph = replace(graph, src=graph.src[half], dst=graph.dst[half])
    manifest = write(graph, tmp_path / "out", recipe(3))
    cut = 0
    for part, sizes in enumerate(manifest.parts):
        structure, data = load(manifest, tmp_path / "out", part)
        inner = structure.ndata["inner_node"].bool()
        inner_edges = structure.edata["inner_edge"].bool()
        src, _ = structure.edges()
        cut += int((inner_edges & ~inner[src]).sum())
        assert sizes.num_inner_nodes == int(inner.sum())
        assert sizes.num_halo_nodes == int((~inner).sum())
        assert sizes.num_edges == int(inner_edges.sum())
        assert sizes.num_train == int(data["train_mask"].sum())
    assert manifest.num_cut_edges == cut > 0
    assert sum(part.num_edges for part in manifest.parts) == manifest.num_edges == graph.num_edges


def test_parts_are_balanced_and_cut_few_edges(tmp_path: Path) -> None:
    graph = draw_graph(replace(PRESET, num_nodes=4_000), name="larger", seed=0)
    manifest = write(graph, tmp_path / "out", recipe(2))
    one, other = manifest.parts
    assert one.num_inner_nodes == pytest.approx(other.num_inner_nodes, rel=0.15)
    assert one.num_train == pytest.approx(other.num_train, rel=0.15)
    assert one.num_edges == pytest.approx(other.num_edges, rel=0.15)
    assert manifest.cut_fraction < 0.2


def test_the_manifest_describes_the_folder(tmp_path: Path) -> None:
    manifest = write(make_graph(), tmp_path / "out", recipe(2))
    assert manifest == Manifest.read(tmp_path / "out")
    manifest.verify(tmp_path / "out")
    assert {file.path for file in manifest.files} == {
        "synthetic-tiny.json",
        *(f"part{p}/{name}.dgl" for p in (0, 1) for name in ("graph", "node_feat", "edge_feat")),
        *(f"part{p}/part.json" for p in (0, 1)),
        "node_ids.npy",
    }
    for part in (0, 1, None):
        manifest.verify_content(tmp_path / "out", part=part)
    assert manifest.has_seed_phase
    assert manifest.source["num_communities"] == 8
    assert manifest.versions["dgl"] == dgl.__version__


def test_edges_keep_their_weights(tmp_path: Path) -> None:
    graph = make_graph()
    weight = (graph.src * 1000 + graph.dst).astype(np.float32)
    manifest = write(replace(graph, weight=weight), tmp_path / "out", recipe(2))
    config = str(manifest.part_config(tmp_path / "out"))
    for part in (0, 1):
        local, nodes, edges, *_ = dgl.distributed.load_partition(config, part)
        original = np.full(local.num_nodes(), -1)
        inner = local.ndata["inner_node"].numpy().astype(np.bool_)
        original[inner] = nodes["_N/feat"][:, 0].numpy()
        src, dst = (original[ends.numpy()] for ends in local.edges())
        stored = edges["_N:_E:_N/weight"].numpy()
        own = local.edata["inner_edge"].numpy().astype(np.bool_)
        known = (src[own] >= 0) & (dst[own] >= 0)
        np.testing.assert_array_equal(stored[known], (src[own] * 1000 + dst[own])[known])
        assert known.sum() > 100


def test_label_sets_are_kept(tmp_path: Path) -> None:
    graph = make_graph()
    sets = np.eye(4, dtype=np.float32)[graph.labels]
    multilabel = check_graph(replace(graph, labels=sets, multilabel=True))
    manifest = write(multilabel, tmp_path / "out", recipe(2))
    assert manifest.multilabel
    _, data = load(manifest, tmp_path / "out", 1)
    np.testing.assert_array_equal(data["label"], sets[data["feat"][:, 0].astype(np.int64)])


def test_features_beyond_float16_are_refused(tmp_path: Path) -> None:
    graph = make_graph()
    graph.features[3, 2] = 1e6
    with pytest.raises(ConfigError, match=r"feature_dtype = 'float16'.*1e\+06"):
        write(graph, tmp_path / "out", recipe(2, "float16"))


def test_more_parts_than_training_nodes_are_refused(tmp_path: Path) -> None:
    few = np.arange(600) < 3
    graph = replace(make_graph(), train_mask=few, val_mask=~few & False)
    with pytest.raises(ConfigError, match=r"num_parts = 4 .*1 to 3"):
        write(graph, tmp_path / "out", recipe(4))


def test_a_graph_too_small_for_its_parts_is_refused(tmp_path: Path) -> None:
    small = draw_graph(Preset(12, 2, 4, 2, 0.9, 0.0, 0.1, num_communities=2), name="s", seed=0)
    with pytest.raises(DataError, match=r"METIS leaves a part empty .* into 10") as refused:
        write(small, tmp_path / "out", recipe(10))
    assert "--method random" in refused.value.remedy


@pytest.mark.parametrize("num_parts", [1, 2, 5])
def test_a_random_cut_leaves_no_part_empty_and_is_repeated(num_parts: int, tmp_path: Path) -> None:
    small = draw_graph(Preset(12, 2, 4, 2, 0.9, 0.0, 0.1, num_communities=2), name="s", seed=0)
    how = recipe(num_parts).model_copy(update={"method": "random"})
    first, second = (write(small, tmp_path / name, how) for name in ("first", "second"))
    assert first.parts == second.parts
    assert first.num_cut_edges == second.num_cut_edges
    assert sum(part.num_inner_nodes for part in first.parts) == 12
    assert all(part.num_inner_nodes >= 12 // num_parts for part in first.parts)
    assert all(part.num_train >= first.num_train // num_parts for part in first.parts)


def test_whole_numbers_that_float16_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    graph = make_graph()
    graph.features[:, 1] = 30_000 + np.arange(graph.num_nodes)
    with pytest.raises(DataError, match=r"features\[:, 1\]: 600 values become 38 as float16"):
        write(graph, tmp_path / "out", recipe(2, "float16"))


@pytest.mark.parametrize(
    ("size", "full_at", "says"),
    [
        ("500k", "nothing", "need about"),
        ("6m", "cutting", "is full"),
    ],
)
def test_a_full_disk_leaves_no_manifest(tmp_path: Path, size: str, full_at: str, says: str) -> None:
    inside = f'mount -t tmpfs -o size={size} tmpfs "$1" && exec "$2" -c "$3" "$1" {full_at}'
    command = ["unshare", "-Urm", "sh", "-c", inside, "sh", str(tmp_path), sys.executable]
    done = subprocess.run([*command, IN_A_SMALL_DISK], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no namespace to mount a small disk in: {done.stderr.strip()}")
    said = done.stdout.splitlines()
    assert said[-2].startswith("MachineError"), done.stdout + done.stderr
    assert says in said[-2]
    assert said[-1] == "False"
