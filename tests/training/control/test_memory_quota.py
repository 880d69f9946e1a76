"""Ranks of a host share its memory budget: it moves to who stalls, and is never exceeded."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.training.control.memory_quota import PARTS_PER_TRAINER, Allotment, NoAllotment
from rudder.training.metrics import StepTiming
from tests.training.control.doors import workload_of

ROW_BYTES = 400
SHARE_ROWS = 1000
STALLED, CALM = 0.5, 0.0


def allotment_of(
    rank: int,
    *,
    ranks: int = 2,
    held: int = SHARE_ROWS,
    host: int = 0,
    budget: int | None = SHARE_ROWS,
    file: Path | None = None,
) -> Allotment:
    """budget: rows per rank."""
    work = workload_of(rank=rank, part=host, trainers_on_host=ranks, capacity_rows=held)
    num_bytes = None if budget is None else budget * ranks * ROW_BYTES
    return Allotment(work, budget_bytes=num_bytes, budget_file=file)


def pace(rank: int, wait: float) -> StepTiming:
    return StepTiming(rank=rank, window=0, step_seconds=1.0, exposed_wait_seconds=wait)


def told(rank: int, allotment: Allotment, wait: float) -> StepTiming:
    own = pace(rank, wait)
    return own.model_copy(update={"stake": allotment.stake(own)})


def rounds(allotments: Sequence[Allotment], waits: Sequence[float], *, count: int) -> None:
    """All tell, then all hear."""
    for _ in range(count):
        words = [told(rank, each, waits[rank]) for rank, each in enumerate(allotments)]
        for rank, each in enumerate(allotments):
            each.hear(words[rank], [word for word in words if word.rank != rank])


def limit(allotment: Allotment) -> int:
    assert allotment.limit_rows is not None
    return allotment.limit_rows


def obey(allotments: Sequence[Allotment], *, greedy: int) -> None:
    """What controllers do: buffers shrink to what is offered, and the greedy one takes it all."""
    for rank, each in enumerate(allotments):
        assert each.offered_rows is not None
        assert each.hold(each.offered_rows if rank == greedy else min(each.offered_rows, 1000))


def walk(random: Random, *, ranks: int, steps: int) -> int:
    """Ranks tell, hear words of any age and change their buffers, in any order; after each step
    nothing is exceeded. Returns the parts that were given."""
    allotments = [allotment_of(rank, ranks=ranks) for rank in range(ranks)]
    waits, held = [CALM] * ranks, [SHARE_ROWS] * ranks
    words = [[told(rank, each, CALM)] for rank, each in enumerate(allotments)]
    for _ in range(steps):
        rank = random.randrange(ranks)
        own = allotments[rank]
        if random.random() < 0.05:
            waits[rank] = random.choice([CALM, 0.2, STALLED, 2.0])
        if random.random() < 0.5:
            words[rank].append(told(rank, own, waits[rank]))
        if random.random() < 0.1:
            rows = random.choice([0, SHARE_ROWS // 8, limit(own), limit(own) + 1])
            held[rank] = rows if own.hold(rows) else held[rank]
        if random.random() < 0.7:
            others = [words[other] for other in range(ranks) if other != rank]
            ages = [min(int(random.expovariate(0.5)), len(each) - 1) for each in others]
            heard = [each[-1 - age] for each, age in zip(others, ages, strict=True)]
            own.hear(pace(rank, waits[rank]), heard)
        assert sum(held) <= ranks * SHARE_ROWS
        assert sum(limit(each) for each in allotments) <= ranks * SHARE_ROWS
        assert all(kept <= limit(each) for kept, each in zip(held, allotments, strict=True))
    stakes = [told(rank, each, CALM).stake for rank, each in enumerate(allotments)]
    return sum(sum(stake.given_parts.values()) for stake in stakes if stake is not None)


@settings(max_examples=60, deadline=None)
@given(random=st.randoms(use_true_random=True), ranks=st.integers(2, 5))
def test_the_budget_is_never_exceeded_however_late_and_in_whatever_order_words_come(
    random: Random, ranks: int
) -> None:
    walk(random, ranks=ranks, steps=200)


def test_much_is_given_and_taken_on_such_walks() -> None:
    given = [walk(Random(seed), ranks=3, steps=600) for seed in range(5)]
    assert min(given) > PARTS_PER_TRAINER


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_the_rank_that_stalls_ends_with_most(ranks: int) -> None:
    allotments = [allotment_of(rank, ranks=ranks) for rank in range(ranks)]
    waits = [CALM] * (ranks - 1) + [STALLED]
    for _ in range(400):
        rounds(allotments, waits, count=1)
        obey(allotments, greedy=ranks - 1)
    limits = [limit(each) for each in allotments]
    assert limits[-1] > 0.8 * (ranks * SHARE_ROWS - (ranks - 1) * SHARE_ROWS / 8)
    assert all(each >= SHARE_ROWS // 8 for each in limits[:-1])


def test_it_comes_back_when_another_rank_stalls() -> None:
    allotments = [allotment_of(rank) for rank in range(2)]
    for greedy in (1, 0):
        waits = [CALM, CALM]
        waits[greedy] = STALLED
        for _ in range(400):
            rounds(allotments, waits, count=1)
            obey(allotments, greedy=greedy)
        assert limit(allotments[greedy]) > 1.5 * SHARE_ROWS


def test_room_that_is_free_is_given_only_once_it_has_long_been_free() -> None:
    calm, stalled = allotment_of(0, held=SHARE_ROWS), allotment_of(1)
    assert calm.hold(400)
    rounds([calm, stalled], [CALM, STALLED], count=7)
    assert limit(calm) == SHARE_ROWS
    rounds([calm, stalled], [CALM, STALLED], count=3)
    assert limit(calm) in (400, 399)
    assert limit(stalled) in (1600, 1599)
    assert calm.hold(SHARE_ROWS) is False
    assert stalled.hold(1500)


def test_a_calm_rank_without_free_room_is_asked_for_some_first_and_gives_what_it_has_cleared() -> (
    None
):
    calm, stalled = allotment_of(0), allotment_of(1)
    rounds([calm, stalled], [CALM, STALLED], count=1)
    assert limit(calm) == SHARE_ROWS
    assert calm.offered_rows == SHARE_ROWS * 7 // 8
    assert calm.hold(calm.offered_rows)
    rounds([calm, stalled], [CALM, STALLED], count=12)
    assert limit(calm) < SHARE_ROWS < limit(stalled)


def test_nobody_gives_to_a_rank_that_waits_hardly_longer_or_leaves_room_unused() -> None:
    for waits, held in (([0.3, 0.5], SHARE_ROWS), ([CALM, STALLED], 500), ([CALM, 0.04], 1000)):
        other, one = allotment_of(0), allotment_of(1, held=held)
        assert other.hold(100)
        rounds([other, one], waits, count=20)
        assert limit(other) == limit(one) == SHARE_ROWS
        assert other.offered_rows == SHARE_ROWS


def test_what_is_offered_is_all_again_when_nobody_claims_any_more() -> None:
    calm, stalled = allotment_of(0), allotment_of(1)
    rounds([calm, stalled], [CALM, STALLED], count=1)
    assert calm.offered_rows != SHARE_ROWS
    rounds([calm, stalled], [CALM, CALM], count=1)
    assert calm.offered_rows == SHARE_ROWS


def test_of_several_claims_the_longest_wait_counts_then_the_lowest_rank() -> None:
    for waits, gets in (([CALM, 0.4, 0.9], 2), ([CALM, 0.9, 0.9], 1)):
        allotments = [allotment_of(rank, ranks=3) for rank in range(3)]
        assert allotments[0].hold(100)
        rounds(allotments, waits, count=9)
        given = told(0, allotments[0], CALM).stake
        assert given is not None
        assert set(given.given_parts) == {gets}


def test_ranks_of_other_hosts_get_nothing() -> None:
    here, there = allotment_of(0), allotment_of(1, host=1)
    assert here.hold(100)
    rounds([here, there], [CALM, STALLED], count=20)
    assert limit(here) == limit(there) == SHARE_ROWS


def test_a_budget_that_is_changed_changes_what_every_rank_may_have(tmp_path: Path) -> None:
    file = tmp_path / "memory-budget"
    calm, stalled = allotment_of(0, file=file), allotment_of(1, file=file)
    assert calm.hold(400)
    rounds([calm, stalled], [CALM, STALLED], count=10)
    file.write_text(str(SHARE_ROWS * ROW_BYTES))
    for each, was in ((calm, 400), (stalled, 1600)):
        assert limit(each) in (was, was - 1)
        each.look()
        assert limit(each) == pytest.approx(was / 2, abs=1)
    file.write_text("nonsense")
    stalled.look()
    assert limit(stalled) == pytest.approx(1600, abs=1)


def test_a_buffer_beyond_its_limit_may_shrink_and_not_grow() -> None:
    allotment = allotment_of(0, held=3000)
    assert not allotment.hold(3001)
    assert allotment.hold(2000)
    assert not allotment.hold(2500)
    assert allotment.hold(SHARE_ROWS)
    assert allotment.hold_at_most(5000) == SHARE_ROWS


def test_without_a_budget_there_is_no_limit_and_nothing_to_tell() -> None:
    free = allotment_of(0, budget=None)
    assert free.limit_rows is None
    assert free.offered_rows is None
    assert free.stake(pace(0, STALLED)) is None
    assert free.hold(10**9)
    assert free.hold_at_most(10**9) == 10**9
    none = NoAllotment()
    assert none.hold(10**9)
    assert none.hold_at_most(7) == 7


def test_a_trainer_alone_on_its_host_has_the_whole_budget() -> None:
    alone = allotment_of(0, ranks=1)
    assert limit(alone) == SHARE_ROWS
    assert alone.stake(pace(0, STALLED)) is None


def test_room_that_another_thread_has_just_taken_is_not_given_away() -> None:
    calm, stalled = allotment_of(0), allotment_of(1)
    assert calm.hold(0)
    is_over, kept = threading.Event(), list[bool]()

    def grow() -> None:
        while not is_over.is_set():
            if calm.hold(300):
                kept.append(limit(calm) >= 300)
            calm.hold(0)

    thread = threading.Thread(target=grow)
    thread.start()
    while not kept:
        time.sleep(0.001)
    rounds([calm, stalled], [CALM, STALLED], count=200)
    is_over.set()
    thread.join()
    assert all(kept)
    assert limit(calm) + limit(stalled) <= 2 * SHARE_ROWS
