from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from rudder.training.errors import ConfigError, DataError, MachineError
from rudder.training.manifest import FILE_NAME, LOG_NAME, Manifest
from rudder.training.partition.described import describe
from rudder.training.partition.prepare import (
    DATA_VARIABLE,
    _unforeseen,
    default_data_dir,
    prepare,
)
from rudder.training.partition.statistics import measure_partitions
from rudder.training.partitioned_graph import TensorChoice
from rudder.training.progress import Counted
from tests.waiting import lives, until

PREPARE = """
import sys
from pathlib import Path
from rudder.training.partition.prepare import prepare

prepare("synthetic:tiny", num_parts=2, out=Path(sys.argv[1]),
        progress=lambda text: print(text, flush=True))
"""


def silent(text: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A prepared folder that tests only read, or mend again."""
    out, counts = tmp_path_factory.mktemp("data") / "tiny", list[Counted]()
    prepare("synthetic:tiny", num_parts=2, out=out, progress=silent, count=counts.append)
    read_back = [each for each in counts if each.what == "reading back"]
    assert [(each.done, each.total, each.unit) for each in read_back] == [
        (1, 2, "parts"), (2, 2, "parts"),
    ]  # fmt: skip
    yield out
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]


@pytest.fixture
def own_graph(tmp_path: Path) -> Path:
    path = tmp_path / "ring.npz"
    write_ring(path, num_nodes=60)
    return path


def write_ring(path: Path, *, num_nodes: int) -> None:
    ids = np.arange(num_nodes)
    np.savez(
        path,
        src=np.concatenate([ids, np.roll(ids, 1)]),
        dst=np.concatenate([np.roll(ids, 1), ids]),
        features=np.repeat(ids[:, None], 4, axis=1).astype(np.float32),
        labels=ids % 3,
        train_mask=ids % 2 == 0,
        test_mask=ids % 4 == 1,
    )


def test_what_was_prepared_is_complete_and_described(tiny: Path) -> None:
    manifest = Manifest.read(tiny)
    manifest.verify(tiny)
    assert manifest.dataset == "synthetic:tiny"
    assert manifest.num_nodes == sum(part.num_inner_nodes for part in manifest.parts) == 20_000
    assert manifest.part_config(tiny).is_file()
    assert "METIS" in (tiny / LOG_NAME).read_text()


def test_an_equal_call_reuses_what_is_there(tiny: Path) -> None:
    told: list[str] = []
    before = (tiny / FILE_NAME).stat().st_mtime_ns
    manifest = prepare("synthetic:tiny", num_parts=2, out=tiny, progress=told.append)
    assert manifest == Manifest.read(tiny)
    assert told == [f"reusing {tiny}"]
    assert (tiny / FILE_NAME).stat().st_mtime_ns == before


def test_another_graph_in_the_folder_is_refused_with_what_differs(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="seed: 0, not 1") as refused:
        prepare("synthetic:tiny", num_parts=2, seed=1, out=tiny, progress=silent)
    assert "--out" in refused.value.remedy
    with pytest.raises(ConfigError, match="num_parts: 2, not 4"):
        prepare("synthetic:tiny", num_parts=4, out=tiny, progress=silent)


def test_a_file_cut_off_later_is_found(tiny: Path) -> None:
    victim = tiny / "part1" / "node_feat.dgl"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1])
    try:
        with pytest.raises(DataError, match=r"part1/node_feat.dgl \(partition of host1\) has"):
            prepare("synthetic:tiny", num_parts=2, out=tiny, progress=silent)
    finally:
        victim.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "at"),
    [("synthetic-tiny.json", 3), ("part1/node_feat.dgl", 21), ("manifest.json", 99)],
)
def test_a_flipped_bit_is_called_damage_whatever_it_makes_of_the_file(
    name: str, at: int, tiny: Path
) -> None:
    victim = tiny / name
    whole = victim.read_bytes()
    victim.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
    try:
        for read in (describe, measure_partitions):
            with pytest.raises(DataError, match=rf"damaged.*{name}|{name} is damaged") as refused:
                read(tiny, TensorChoice(), progress=silent)
            assert "rudder prepare" in refused.value.remedy
    finally:
        victim.write_bytes(whole)


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="is not a prepared graph"):
        prepare("synthetic:tiny", num_parts=2, out=tmp_path, progress=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ConfigError, match="is not a prepared graph"):
        prepare("synthetic:tiny", num_parts=2, out=tmp_path / "thesis.tex", progress=silent)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"spec": "synthetic:huge"}, "dataset = 'synthetic:huge'"),
        ({"num_parts": 0}, "num_parts = 0 .*1 to 250"),
        ({"num_parts": 251}, "num_parts = 251"),
        ({"seed": -1}, "seed = -1"),
        ({"feature_dtype": "float8"}, "feature_dtype = 'float8'"),
    ],
)
def test_a_bad_argument_is_refused_by_name(
    tmp_path: Path, options: dict[str, object], says: str
) -> None:
    arguments = {"spec": "synthetic:tiny", "num_parts": 2, **options}
    with pytest.raises(ConfigError, match=says):
        prepare(out=tmp_path / "out", progress=silent, **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_own_graph_is_prepared_and_its_edits_are_noticed(own_graph: Path) -> None:
    out = own_graph.parent / "out"
    spec = f"npz:{own_graph}"
    told: list[str] = []
    manifest = prepare(spec, num_parts=2, out=out, feature_dtype="float16", progress=told.append)
    assert manifest.num_nodes == 60
    assert manifest.row_bytes == 8
    assert manifest.source == {"file": str(own_graph)}
    assert told[0] == f"loading {spec}"
    assert told[-1] == f"wrote {out}"
    write_ring(own_graph, num_nodes=61)
    with pytest.raises(ConfigError, match="fingerprint"):
        prepare(spec, num_parts=2, out=out, feature_dtype="float16", progress=silent)


def test_an_error_of_the_worker_is_raised_here_and_nothing_stays(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", src=[0], dst=[1])
    with pytest.raises(DataError, match="no array 'features'") as refused:
        prepare(f"npz:{tmp_path}/bad.npz", num_parts=2, out=tmp_path / "out", progress=silent)
    assert "docs/datasets.md" in refused.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["bad.npz"]


def test_a_folder_that_cannot_be_made_is_a_machine_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="file"):
        prepare("synthetic:tiny", num_parts=2, out=tmp_path / "file" / "out", progress=silent)


def test_an_interrupted_call_ends_its_worker_and_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    others = set(psutil.Process().children())
    with pytest.raises(KeyboardInterrupt):
        prepare("synthetic:tiny", num_parts=2, out=tmp_path / "out", progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    assert set(psutil.Process().children()) <= others


def test_a_killed_call_leaves_no_worker_and_the_next_one_cleans_up(own_graph: Path) -> None:
    out = own_graph.parent / "out"
    with subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(out)], stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        while not killed.stdout.readline().startswith("cutting"):
            assert killed.poll() is None
        (worker,) = psutil.Process(killed.pid).children()
        killed.kill()
    until(lambda: not lives(worker))
    assert not out.exists()
    assert len(list(out.parent.glob(".out.partial-*"))) == 1
    prepare(f"npz:{own_graph}", num_parts=1, out=out, progress=silent)
    assert sorted(path.name for path in out.parent.iterdir()) == ["out", "ring.npz"]


def test_two_calls_at_once_write_one_folder(own_graph: Path) -> None:
    out = own_graph.parent / "out"
    told: list[str] = []
    manifests: list[Manifest] = []

    def call() -> None:
        manifests.append(prepare(f"npz:{own_graph}", num_parts=2, out=out, progress=told.append))

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert manifests[0] == manifests[1]
    assert told.count(f"wrote {out}") == told.count(f"reusing {out}") == 1
    assert f"waiting for another `rudder prepare` of {out}" in told


def test_equal_calls_cut_equally_and_keep_standard_output_clean(
    own_graph: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folders = [own_graph.parent / name for name in ("one", "same")]
    for out in folders:
        prepare(f"npz:{own_graph}", num_parts=2, out=out, progress=silent)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    for name in ("npz-ring.json", "part0/node_feat.dgl", "part1/node_feat.dgl"):
        one, same = ((out / name).read_bytes() for out in folders)
        assert one == same  # each row holds its node's id: the parts have the same nodes


def test_a_killed_worker_is_taken_for_lack_of_memory_and_another_end_shows_its_log(
    tiny: Path,
) -> None:
    recipe = Manifest.read(tiny).recipe
    assert "memory" in str(_unforeseen(-9, recipe, tiny / LOG_NAME))
    assert "Save partitions" in str(_unforeseen(1, recipe, tiny / LOG_NAME))


def test_default_folders_are_told_apart_by_every_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    folders = [
        default_data_dir("synthetic:tiny", 2),
        default_data_dir("synthetic:tiny", 4),
        default_data_dir("synthetic:tiny", 2, 1),
        default_data_dir("synthetic:tiny", 2, undirected=True),
        default_data_dir("synthetic:tiny", 2, feature_dtype="float16"),
        default_data_dir("synthetic:tiny", 2, balance=False),
        default_data_dir("npz:a/x.npz", 2),
        default_data_dir("npz:b/x.npz", 2),
    ]
    assert len(set(folders)) == len(folders)
    assert folders[0] == tmp_path / "synthetic-tiny-2parts-seed0"
    monkeypatch.delenv(DATA_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_data_dir("debian", 2).parent == tmp_path / "cache" / "rudder" / "data"


def test_the_parent_imports_neither_torch_nor_dgl() -> None:
    check = "import sys, rudder.training.partition.prepare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
