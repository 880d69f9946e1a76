from __future__ import annotations

import json
from pathlib import Path

import pytest

from rudder.training.checksums import StoredFile
from rudder.training.errors import DataError
from rudder.training.manifest import FILE_NAME, Manifest, PartIdentity, PartSizes, Recipe

RECIPE = Recipe(dataset="synthetic:tiny", num_parts=2, seed=3, feature_dtype="float16")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, letter in enumerate((b"x", b"y")):
        (tmp_path / f"part{part}").mkdir()
        (tmp_path / f"part{part}" / "graph.dgl").write_bytes(letter * 100)
    (tmp_path / "tiny.json").write_text("{}")
    return tmp_path


@pytest.fixture
def manifest(folder: Path) -> Manifest:
    identities = [
        PartIdentity(preparation="one", part=part).write(folder / f"part{part}") for part in (0, 1)
    ]
    files = [folder / "part0" / "graph.dgl", folder / "part1" / "graph.dgl", folder / "tiny.json"]
    part = PartSizes(num_inner_nodes=5, num_halo_nodes=2, num_edges=10, num_train=1)
    written = Manifest(
        **RECIPE.model_dump(),
        graph_name="tiny",
        num_nodes=10,
        num_edges=20,
        feature_dim=4,
        num_classes=3,
        multilabel=False,
        has_seed_phase=False,
        num_train=2,
        num_val=0,
        num_test=8,
        num_cut_edges=5,
        parts=(part, part),
        files=tuple(StoredFile.of(folder, file) for file in (*files, *identities)),
        preparation="one",
        source={"generator": "by hand"},
        versions={"dgl": "2.1.0"},
    )
    written.write(folder)
    return written


def test_a_manifest_is_read_as_it_was_written(manifest: Manifest, folder: Path) -> None:
    read = Manifest.read(folder)
    assert read == manifest
    assert read.recipe == RECIPE
    assert read.cut_fraction == 0.25
    assert read.row_bytes == 8
    assert read.part_config(folder) == folder / "tiny.json"
    read.verify(folder)


def test_a_folder_without_a_manifest_says_how_to_prepare_one(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="holds no prepared graph") as refused:
            Manifest.read(missing)
        assert "rudder prepare" in refused.value.remedy


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        "\x00\xff",
        '{"format_version": 1}',
        '{"format_version": 1, "seed": 3}',
    ],
)
def test_a_damaged_manifest_is_refused(folder: Path, content: str) -> None:
    (folder / FILE_NAME).write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match="is damaged") as refused:
        Manifest.read(folder)
    assert "again" in refused.value.remedy


def test_no_flipped_bit_makes_another_manifest(manifest: Manifest, folder: Path) -> None:
    whole, num_refused = (folder / FILE_NAME).read_bytes(), 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        (folder / FILE_NAME).write_bytes(flipped)
        try:
            assert Manifest.read(folder) == manifest
        except DataError:
            num_refused += 1
    assert num_refused > 0.7 * len(whole)


@pytest.mark.usefixtures("manifest")
def test_a_manifest_without_a_checksum_of_its_own_is_read(folder: Path) -> None:
    """Earlier versions wrote none."""
    content = json.loads((folder / FILE_NAME).read_text())
    del content["xxh3_of_the_rest"]
    (folder / FILE_NAME).write_text(json.dumps({**content, "seed": 5}))
    assert Manifest.read(folder).seed == 5


@pytest.mark.usefixtures("manifest")
def test_a_manifest_of_another_format_is_refused_by_its_version(folder: Path) -> None:
    content = json.loads((folder / FILE_NAME).read_text())
    (folder / FILE_NAME).write_text(json.dumps({**content, "format_version": 99}))
    with pytest.raises(DataError, match=r"format version 99; allowed: 1"):
        Manifest.read(folder)


def test_a_missing_and_a_cut_off_file_are_found(manifest: Manifest, folder: Path) -> None:
    (folder / "part0" / "graph.dgl").write_bytes(b"x" * 99)
    with pytest.raises(
        DataError, match=r"part0/graph.dgl \(partition of host0\) has 99 bytes, not 100"
    ):
        manifest.verify(folder)
    (folder / "tiny.json").unlink()
    with pytest.raises(DataError, match=r"and 1 more"):
        manifest.verify(folder)


def test_a_flipped_bit_is_found_by_who_reads_that_part(manifest: Manifest, folder: Path) -> None:
    content = bytearray((folder / "part1" / "graph.dgl").read_bytes())
    content[57] ^= 4
    (folder / "part1" / "graph.dgl").write_bytes(content)
    manifest.verify(folder)
    for part in (0, None):
        manifest.verify_content(folder, part=part)
    with pytest.raises(
        DataError,
        match=r"part1/graph.dgl \(partition of host1\) has another content than was written \(XXH3",
    ):
        manifest.verify_content(folder, part=1)
    (folder / "tiny.json").write_text("[]")
    with pytest.raises(DataError, match=r"tiny.json has another content"):
        manifest.verify_content(folder, part=None)
    (folder / "part1" / "graph.dgl").unlink()
    with pytest.raises(DataError, match=r"part1/graph.dgl .*: No such file"):
        manifest.verify_content(folder, part=1)


def test_a_flipped_bit_in_a_parts_identity_makes_it_no_other_part(
    manifest: Manifest, folder: Path
) -> None:
    file = folder / "part1" / "part.json"
    file.write_text(file.read_text().replace('"part": 1', '"part": 0'))
    manifest.verify(folder)
    with pytest.raises(DataError, match=r"part1/part.json .* has another content than was written"):
        manifest.verify_content(folder, part=1)


def test_swapped_parts_and_files_are_named_as_such(manifest: Manifest, folder: Path) -> None:
    swap(folder / "part0" / "graph.dgl", folder / "part1" / "graph.dgl")
    with pytest.raises(DataError, match=r"part0/graph.dgl .* is part1/graph.dgl \(XXH3"):
        manifest.verify_content(folder, part=0)
    swap(folder / "part0", folder / "part1")
    with pytest.raises(DataError, match=r"the folder part0 holds part 1; parts are swapped"):
        manifest.verify(folder)


def swap(one: Path, other: Path) -> None:
    one.rename(one.with_name("aside"))
    other.rename(one)
    one.with_name("aside").rename(other)


def test_parts_of_two_preparations_are_named_as_such(manifest: Manifest, folder: Path) -> None:
    PartIdentity(preparation="two", part=1).write(folder / "part1")
    with pytest.raises(
        DataError, match=r"part1 comes from another preparation; parts of two are mixed"
    ) as refused:
        manifest.verify(folder)
    assert "rudder prepare" in refused.value.remedy


def test_a_folder_of_an_older_version_is_taken_without_checksums(
    manifest: Manifest, folder: Path
) -> None:
    files = tuple(file.model_copy(update={"xxh3": ""}) for file in manifest.files)
    older = manifest.model_copy(update={"files": files, "preparation": ""})
    (folder / "part1" / "graph.dgl").write_bytes(b"z" * 100)
    older.verify(folder)
    older.verify_content(folder, part=1)


@pytest.mark.parametrize("name", ["\ud800", "a\0b"])
def test_a_name_that_no_file_can_have_is_damage(
    name: str, manifest: Manifest, folder: Path
) -> None:
    content = manifest.model_dump(mode="json")
    content["files"][0]["path"] = name
    (folder / FILE_NAME).write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        Manifest.read(folder).verify(folder)


def test_differences_of_recipes_are_named() -> None:
    other = Recipe(dataset="debian", num_parts=2, seed=4, feature_dtype="float16")
    assert RECIPE.differences(other) == [
        "dataset: 'synthetic:tiny', not 'debian'",
        "seed: 3, not 4",
    ]
    assert RECIPE.differences(RECIPE) == []
