"""The short form of benchmarks/audit_attack.py."""

from __future__ import annotations

import random
from pathlib import Path

from tests.memory.attacks import FORGERIES, campaign


def test_verify_finds_every_attack_and_without_an_anchor_all_but_forgeries_of_all_files(
    tmp_path: Path,
) -> None:
    toll = campaign(300, folder=tmp_path, draw=random.Random(3))
    assert set(+toll.missed) == set(FORGERIES)
    assert not +toll.missed_with_anchor
    assert len(toll.made) == 22
