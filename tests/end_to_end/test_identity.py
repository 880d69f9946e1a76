"""Batches are bit-identical to what DistTensors hold, whatever is changed while they are made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.jobs import SCRIPTS, run_script

pytestmark = pytest.mark.distributed


def results(data: Path, scratch: Path, *arguments: str) -> list[dict[str, Any]]:
    outputs = run_script(
        SCRIPTS / "identity.py", "--scratch", str(scratch), *arguments, data=data, scratch=scratch
    )
    lines = [line for output in outputs for line in output.splitlines() if line.startswith("{")]
    assert len(lines) == 2, outputs
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("graph", ["tiny_parts", "debian_parts"])
def test_batches_are_identical_while_settings_change(
    graph: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = request.getfixturevalue(graph)
    for result in results(data, tmp_path, "--wire", "lean", "--epochs", "2", "--max-seeds", "2400"):
        assert result["wrong"] == []
        assert result["seen_all_seeds"]
        assert result["batches"] > 50
        assert result["outcomes"] > 20
        assert all("there is no buffer" in reason for reason in result["reasons"])
        assert 0 < result["hits"] < result["remote"]
        assert result["sent"] == result["fetched_by_all"]


@pytest.mark.parametrize(
    "arguments",
    [("--wire", "stock"), ("--wire", "stock", "--sampler", "replace")],
    ids=["unmodified servers", "a sampler of the user's"],
)
def test_batches_are_identical_with(
    arguments: tuple[str, ...], tiny_parts: Path, tmp_path: Path
) -> None:
    for result in results(tiny_parts, tmp_path, *arguments, "--epochs", "2", "--max-seeds", "1600"):
        assert result["wrong"] == []
        assert result["seen_all_seeds"]


def test_equal_batches_are_drawn_without_a_buffer_and_while_settings_change(
    tiny_parts: Path, tmp_path: Path
) -> None:
    digests = []
    for policy in ("none", "lookahead"):
        options = ("--wire", "lean", "--policy", policy, "--epochs", "2", "--max-seeds", "1600")
        found = results(tiny_parts, tmp_path / policy, *options)
        assert all(result["wrong"] == [] and result["seen_all_seeds"] for result in found)
        digests.append(sorted(result["digest"] for result in found))
    assert digests[0] == digests[1]
