"""Both examples train as they stand, with servers that know nothing of Rudder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.jobs import ROOT, run_script

pytestmark = pytest.mark.distributed
SCRIPT = ROOT / "examples" / "own_script.py"


def test_own_script_trains_and_gets_identical_rows(tiny_parts: Path, tmp_path: Path) -> None:
    arguments = ("--check", "--epochs", "3", "--batch-size", "128")
    outputs = run_script(SCRIPT, *arguments, data=tiny_parts, scratch=tmp_path)
    for output in outputs:
        losses = [float(line.split()[-1]) for line in output.splitlines() if ", loss " in line]
        assert len(losses) == 3
        assert losses[-1] < 0.8 * losses[0]
        assert "identical to DistTensor reads: True" in output


def test_the_link_prediction_example_learns(tiny_parts: Path, tmp_path: Path) -> None:
    arguments = ("--check", "--epochs", "3", "--batch-size", "128", "--max-edges", "2000")
    script = ROOT / "examples" / "link_prediction.py"
    for output in run_script(script, *arguments, data=tiny_parts, scratch=tmp_path):
        losses = [float(line.split()[-1]) for line in output.splitlines() if ", loss " in line]
        assert len(losses) == 3
        assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("page", ["README.md", "docs/own-script.md"])
def test_documents_show_the_lines_that_differ(page: str) -> None:
    shown = (ROOT / page).read_text()
    marked = [line for line in SCRIPT.read_text().splitlines() if line.endswith("# rudder")]
    assert len(marked) == 3
    for line in marked:
        assert line.removesuffix("# rudder").strip() in shown
