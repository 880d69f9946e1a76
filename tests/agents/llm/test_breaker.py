"""The breaker over random schedules, with a clock that only the test moves."""

from __future__ import annotations

from random import Random

from rudder.agents.llm.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def breaker_of(clock: Clock, seed: int = 0) -> Breaker:
    return Breaker(clock, failures=5, first_pause_s=5.0, max_pause_s=60.0, random=Random(seed))


def fail_times(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        assert breaker.pause_left_s == 0
        breaker.failed()


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    breaker = breaker_of(Clock())
    fail_times(breaker, 4)
    assert breaker.pause_left_s == 0
    fail_times(breaker, 1)
    assert breaker.is_open
    assert breaker.pause_left_s > 0


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = breaker_of(Clock())
    fail_times(breaker, 4)
    breaker.succeeded()
    fail_times(breaker, 4)
    assert not breaker.is_open


def test_pauses_double_up_to_the_cap_and_a_success_resets_them() -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    fail_times(breaker, 5)
    pauses = []
    for _ in range(8):
        pauses.append(breaker.pause_left_s)
        clock.now += breaker.pause_left_s
        fail_times(breaker, 1)
    assert all(5.0 * 2**i <= p <= 5.5 * 2**i for i, p in enumerate(pauses[:4]))
    assert pauses[-1] == 60.0
    clock.now += 60.0
    breaker.succeeded()
    assert not breaker.is_open
    fail_times(breaker, 5)
    assert breaker.pause_left_s <= 5.5


def test_a_question_that_was_given_up_leaves_it_as_it_was() -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    fail_times(breaker, 5)
    clock.now += 10.0
    assert breaker.is_open
    assert breaker.pause_left_s == 0


def test_a_pause_that_the_endpoint_asks_for_is_kept_within_the_cap() -> None:
    breaker = breaker_of(Clock())
    breaker.failed(pause_s=1e9)
    assert breaker.pause_left_s == 60.0


def test_it_keeps_its_word_over_a_thousand_schedules() -> None:
    for seed in range(1000):
        keep_a_schedule(Random(seed), seed)


def keep_a_schedule(random: Random, seed: int) -> None:
    clock = Clock()
    breaker = breaker_of(clock, seed)
    failures = 0
    for _ in range(150):
        clock.now += random.choice([0.0, 0.0, 0.1, 1.0, 10.0])
        assert 0.0 <= breaker.pause_left_s <= 60.0 + 1e-6
        if breaker.pause_left_s > 0:
            continue
        if random.random() < 0.3:
            breaker.succeeded()
            failures = 0
        else:
            breaker.failed()
            failures += 1
        assert breaker.is_open == (failures >= 5)
        assert (breaker.pause_left_s > 0) == breaker.is_open
    clock.now += 60.0
    assert breaker.pause_left_s == 0, "stuck for ever"
