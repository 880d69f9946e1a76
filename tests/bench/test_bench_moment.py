"""What happens once, at the end of a round."""

from __future__ import annotations

import pytest

from rudder.bench.gauge import AtEndOfRound
from rudder.bench.plan import BenchPlan
from rudder.bench.variants import parse_variants
from rudder.training.events import EpochDone
from rudder.training.metrics import EpochMetrics, RowCounts, Seconds

PLAN = BenchPlan(variants=parse_variants("lookahead,none"), repeats=2, epochs_per_turn=3)


def done(rank: int, epoch: int) -> EpochDone:
    metrics = EpochMetrics(
        epoch=epoch, num_steps=1, seconds_total=1.0, seconds=Seconds(), rows=RowCounts(), loss=None
    )
    return EpochDone(rank=rank, metrics=metrics)


@pytest.mark.parametrize(("number", "last_epoch"), [(0, 5), (1, 11)])
def test_it_happens_once_when_all_ranks_have_done_the_round(number: int, last_epoch: int) -> None:
    happened: list[int] = []
    seen: list[int] = []
    moment = AtEndOfRound(PLAN, number, num_ranks=2, action=lambda: happened.append(seen[-1]))
    for epoch in range(18):
        for rank in (1, 0):
            seen.append(10 * epoch + rank)
            moment("none", done(rank, epoch))
    assert happened == [10 * last_epoch]
