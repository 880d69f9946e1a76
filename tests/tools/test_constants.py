"""Every tuned number of the decision path stands in one file, with a reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATHS = [
    *(path for path in sorted((ROOT / "tools").rglob("*.py")) if path.stem != "constants"),
    *(
        ROOT / "agents" / f"{name}.py"
        for name in (
            "critic",
            "guard",
            "objective",
            "observer",
            "planners/embedded",
            "planners/evidence",
            "starting_point",
            "steering",
            "trial",
        )
    ),
]
TECHNICAL = {"catalog", "lookahead_replay", "past_uses", "popularity", "sampled"}
"""Bounds of types, sizes of tables and limits of solvers steer nothing."""
BUDGETS = {"cpu_budget", "memory_watch"}
"""Of processes, not of a decision."""
STATISTICS = {"_MAD_TO_SIGMA", "_STANDS_OUT", "_MAX_OUTLIERS", "_MANY", "_MIN_FREE"}
READINGS = {"_HOT_SHARE", "_BYTES_PER_EDGE", "_WAITING_SHARE"}


def numbers(path: Path) -> Iterator[str]:
    """Names that a module gives to plain numbers."""
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=int() | float())):
                yield name


def test_each_constant_is_followed_by_its_reason() -> None:
    body = ast.parse((ROOT / "tools" / "constants.py").read_text()).body
    places = [place for place, node in enumerate(body) if isinstance(node, ast.Assign)]
    assert len(places) > 50
    for place in places:
        reason = body[place + 1]
        assert isinstance(reason, ast.Expr), ast.unparse(body[place])
        assert isinstance(reason.value, ast.Constant)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_other_file_of_the_decision_path_has_tuned_numbers(path: Path) -> None:
    if path.stem not in TECHNICAL | BUDGETS:
        assert set(numbers(path)) <= STATISTICS | READINGS
