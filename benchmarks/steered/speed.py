"""A steered variant's epochs beside the best of some fixed variants in the same job."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from steered.job import Job
from steered.show import Row


class Speed(Row):
    """speed: per epoch of the steered variant, the best fixed variant's seconds over its own (1:
    as fast), at the same place of a turn; best_s: that variant's median epochs, by place; applied,
    rows_errors: over all ranks; most: applied changes of the rank with most; capacity_rows: at the
    end, by rank."""

    dataset: str
    rate: str
    what: str
    repeat: int
    best: str
    best_s: tuple[float, ...]
    steered_s: tuple[float, ...]
    speed: tuple[float, ...]
    applied: int
    most: int
    capacity_rows: tuple[int | None, ...]
    rows_errors: tuple[float, ...]


def speed_of(
    job: Job,
    steered: str,
    *,
    rate: str,
    what: str,
    repeat: int,
    first_round: int,
    best_from_round: int,
) -> Speed:
    """Epochs of `steered` from the turn of `first_round` on, beside the other variants' from that
    of `best_from_round` on."""
    others = [each.text for each in job.plan.variants if each.text != steered]
    medians = {
        text: _by_place(job.result(text).epochs_of_turns[best_from_round:]) for text in others
    }
    best = min(medians, key=lambda text: sum(medians[text]))
    turns = job.result(steered).epochs_of_turns[first_round:]
    stats = job.stats(steered)
    return Speed(
        dataset=job.report.dataset,
        rate=rate,
        what=what,
        repeat=repeat,
        best=best,
        best_s=medians[best],
        steered_s=tuple(seconds for turn in turns for seconds in turn),
        speed=tuple(
            fixed / own for turn in turns for fixed, own in zip(medians[best], turn, strict=True)
        ),
        applied=sum(each.applied for each in stats),
        most=max(each.applied for each in stats),
        capacity_rows=tuple(each.last and each.last.capacity_rows for each in stats),
        rows_errors=tuple(error for each in stats for error in each.rows_errors),
    )


def _by_place(turns: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """A turn begins with empty queues, and nothing is sampled beyond its end: its epochs differ."""
    return tuple(statistics.median(epochs) for epochs in zip(*turns, strict=True))
