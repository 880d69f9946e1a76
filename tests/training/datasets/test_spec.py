from __future__ import annotations

from pathlib import Path

import pytest

from rudder.training.datasets.registry import DatasetSpec
from rudder.training.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("synthetic:tiny", "synthetic:tiny"),
        (" debian ", "debian"),
        ("ogb:arxiv", "ogb:ogbn-arxiv"),
        ("ogb:ogbn-papers100M", "ogb:ogbn-papers100M"),
        ("reddit", "reddit"),
        ("npz:/data/x.npz", "npz:/data/x.npz"),
        ("csv:/data/../x", "csv:/x"),
    ],
)
def test_a_known_name_has_one_normal_form(text: str, normal: str) -> None:
    assert str(DatasetSpec.parse(text)) == normal
    assert DatasetSpec.parse(normal) == DatasetSpec.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "tiny",
        "synthetic",
        "synthetic:",
        "synthetic:Tiny2",
        "npz",
        "npz:",
        "csv",
        "reddit:2",
        "ogb:ogbn-mag",
        "debian:sid",
        "",
    ],
)
def test_an_unknown_name_is_refused_with_all_that_are_known(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        DatasetSpec.parse(text)
    for known in ("synthetic:community-200k", "debian", "ogb:ogbn-products", "npz:PATH", "csv:DIR"):
        assert known in refused.value.message


@pytest.mark.parametrize("text", ["synthetic:comunity-200k", "community-200k"])
def test_a_near_miss_is_answered_with_what_was_meant(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        DatasetSpec.parse(text)
    assert "did you mean synthetic:community-200k" in refused.value.remedy


def test_a_slug_is_fit_for_a_file_name_and_tells_paths_apart_as_a_folder(tmp_path: Path) -> None:
    one = DatasetSpec.parse(f"npz:{tmp_path}/My graph (2).npz")
    other = DatasetSpec.parse(f"npz:{tmp_path}/other/My graph (2).npz")
    assert one.slug == other.slug == "npz-my-graph-2"
    assert one.folder_name != other.folder_name
    assert DatasetSpec.parse("ogb:arxiv").folder_name == "ogb-ogbn-arxiv"


def test_a_fingerprint_changes_with_the_users_files_only(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    spec = DatasetSpec.parse(f"npz:{path}")
    with pytest.raises(DataError, match="there is no file"):
        spec.fingerprint()
    path.write_bytes(b"one")
    before = spec.fingerprint()
    assert spec.fingerprint() == before
    path.write_bytes(b"other")
    assert spec.fingerprint() != before
    assert DatasetSpec.parse("debian").fingerprint() == ""
