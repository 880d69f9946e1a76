"""What a stock script does beside the loader works as without it; so does leaving."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.jobs import SCRIPTS, run_script

pytestmark = pytest.mark.distributed


def test_a_script_may_use_distdgl_beside_loaders_and_leave_them_in_any_way(
    tiny_parts: Path, tmp_path: Path
) -> None:
    outputs = run_script(
        SCRIPTS / "beside.py", "--scratch", str(tmp_path), data=tiny_parts, scratch=tmp_path
    )
    for output in outputs:
        (line,) = [line for line in output.splitlines() if line.startswith("{")]
        wrong = json.loads(line)
        assert len(wrong) > 10
        assert not any(wrong.values()), wrong
        assert "Traceback" not in output
