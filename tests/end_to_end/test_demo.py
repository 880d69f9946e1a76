"""`rudder demo` as a person's first command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.distributed


def test_the_demo_compares_both_loaders_and_leaves_pages(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rudder", "demo", "--dataset", "synthetic:tiny", "--rate", "50mbit",
         "--epochs", "2"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = {line[:22].strip(): line[22:].split() for line in done.stdout.splitlines()}
    assert lines["loader"] == ["stock", "rudder"]
    assert lines["faster than the first"][0] == "1.00x"
    pages = sorted(path.relative_to(tmp_path / "runs") for path in tmp_path.rglob("*.html"))
    assert [len(path.parts) for path in pages] == [2, 2, 1]
    assert f"runs/{pages[-1]}" in done.stdout
    assert all("<b>Epoch</b>" in (tmp_path / "runs" / page).read_text() for page in pages)
