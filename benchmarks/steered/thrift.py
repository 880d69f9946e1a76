"""Thrift: a buffer that is larger than needed shrinks, beside one that is left alone."""

from __future__ import annotations

from pathlib import Path

from steered.job import Work, measure, plan_of
from steered.show import Row


class Thrift(Row):
    """given_back: share of the capacity at the start, by rank; slowdowns: per round, the steered
    epoch's time beside the fixed one's, less 1, the last round last."""

    dataset: str
    rate: str
    fixed_s: float
    steered_s: float
    slowdowns: tuple[float, ...]
    given_back: tuple[float | None, ...]
    applied: int


def thrift(work: Work, *, buffer: str, repeats: int, epochs: int, out: Path) -> list[Thrift]:
    fixed = f"lookahead:buffer={buffer}"
    steered = f"{fixed}+controller=on"
    job = measure(work, plan_of(fixed, steered, repeats=repeats, epochs=epochs), out=out)
    ours, base, stats = job.result(steered), job.result(fixed), job.stats(steered)
    pairs = zip(ours.turn_seconds, base.turn_seconds, strict=True)
    return [
        Thrift(
            dataset=work.dataset,
            rate=work.rate,
            fixed_s=base.epoch_seconds.median,
            steered_s=ours.epoch_seconds.median,
            slowdowns=tuple(a / b - 1 for a, b in pairs),
            given_back=tuple(each.given_back for each in stats),
            applied=sum(each.applied for each in stats),
        )
    ]
