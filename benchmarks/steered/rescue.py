"""Rescue: steering begins at the worst settings, beside the best point of a grid of fixed ones."""

from __future__ import annotations

from pathlib import Path

from steered.job import Work, measure, plan_of
from steered.speed import Speed, speed_of

LOST = "lookahead:buffer=0.01+lookahead=0+eviction_threshold=0+controller=on"


def rescue(work: Work, *, best: str, repeats: int, epochs: int, out: Path) -> list[Speed]:
    """best: the fixed variant to compare with; a job per repeat, for a rescue happens once.

    The first turn is the rescue. The best variant's own epochs count from round 1 on, warm.
    """
    plan = plan_of(best, LOST, repeats=1, epochs=epochs)
    return [
        speed_of(
            measure(work, plan, out=out / f"rescue{repeat}"),
            LOST,
            rate=work.rate,
            what="rescue",
            repeat=repeat,
            first_round=0,
            best_from_round=1,
        )
        for repeat in range(repeats)
    ]
