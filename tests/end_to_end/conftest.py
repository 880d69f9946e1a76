"""Partitions that the tests of real jobs share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rudder.training.partition.prepare import prepare
from tests.end_to_end.records import check_records


@pytest.fixture(autouse=True)
def _records_hold(tmp_path: Path) -> Iterator[None]:
    """Whatever a test did to a run, its record is whole and says what the trainer did."""
    yield
    check_records(tmp_path)


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`synthetic:tiny` in two parts."""
    out = tmp_path_factory.mktemp("tiny") / "parts"
    prepare("synthetic:tiny", num_parts=2, out=out, progress=lambda text: None)
    return out


@pytest.fixture(scope="session")
def debian_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The machine's own package graph in two parts."""
    out = tmp_path_factory.mktemp("debian") / "parts"
    prepare("debian", num_parts=2, out=out, progress=lambda text: None)
    return out
