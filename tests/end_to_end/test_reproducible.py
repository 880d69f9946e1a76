"""Equal seeds repeat a run bit for bit: batches, losses and accuracy."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.reproducible import Kind, Outcome, outcome

pytestmark = pytest.mark.distributed


def run(parts: Path, *more: str, kind: Kind = "unsteered", seed: int = 3) -> Outcome:
    return outcome(parts, *more, kind=kind, seed=seed, epochs=3, batch_size=64)


def test_a_run_is_repeated_bit_for_bit_with_agents_and_without(tiny_parts: Path) -> None:
    reference = run(tiny_parts)
    assert run(tiny_parts) == reference
    assert run(tiny_parts, kind="steered") == reference


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("more", [("--trainers-per-host", "2"), ("--model", "gat")])
def test_runs_of_more_kinds_are_repeated_bit_for_bit(
    more: tuple[str, ...], seed: int, tiny_parts: Path
) -> None:
    reference = run(tiny_parts, *more, seed=seed)
    assert run(tiny_parts, *more, seed=seed) == reference
    assert run(tiny_parts, *more, kind="interrupted", seed=seed) == reference
