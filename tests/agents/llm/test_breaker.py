"""The breaker over random schedules, with a clock that only the test moves."""

from __future__ import annotations

from random import Random

import pytest

from rudder.agents.llm.breaker import Breaker, Permit


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def breaker_of(clock: Clock, seed: int = 0) -> Breaker:
    return Breaker(clock, failures=5, first_pause_s=5.0, max_pause_s=60.0, random=Random(seed))


def fail_times(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        permit = breaker.permit()
        assert permit is not None
        permit.fail()


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    breaker = breaker_of(Clock())
    fail_times(breaker, 4)
    assert breaker.pause_left_s == 0
    fail_times(breaker, 1)
    assert breaker.state == "open"
    assert breaker.permit() is None


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = breaker_of(Clock())
    fail_times(breaker, 4)
    permit = breaker.permit()
    assert permit is not None
    permit.succeed()
    fail_times(breaker, 4)
    assert breaker.state == "closed"


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
    probe = breaker.permit()
    assert probe is not None
    probe.succeed()
    assert breaker.state == "closed"
    fail_times(breaker, 5)
    assert breaker.pause_left_s <= 5.5


def test_one_probe_at_a_time_and_a_probe_that_was_left_makes_room() -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    fail_times(breaker, 5)
    clock.now += 10.0
    probe = breaker.permit()
    assert probe is not None
    assert breaker.permit() is None
    probe.leave()
    assert breaker.permit() is not None


def test_a_pause_that_the_endpoint_asks_for_is_kept_within_the_cap() -> None:
    breaker = breaker_of(Clock())
    permit = breaker.permit()
    assert permit is not None
    permit.fail(pause_s=1e9)
    assert breaker.pause_left_s == 60.0


def test_what_was_asked_before_it_opened_cannot_close_it() -> None:
    breaker = breaker_of(Clock())
    late = breaker.permit()
    assert late is not None
    fail_times(breaker, 5)
    late.succeed()
    assert breaker.state == "open"


def test_a_permit_counts_once() -> None:
    breaker = breaker_of(Clock())
    permit = breaker.permit()
    assert permit is not None
    for _ in range(10):
        permit.fail()
    assert breaker.state == "closed"


@pytest.mark.parametrize("block", range(10))
def test_it_keeps_its_word_over_a_thousand_schedules(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        keep_a_schedule(Random(seed), seed)


def keep_a_schedule(random: Random, seed: int) -> None:
    clock = Clock()
    breaker = breaker_of(clock, seed)
    out: list[tuple[Permit, bool]] = []
    for _ in range(150):
        clock.now += random.choice([0.0, 0.0, 0.1, 1.0, 10.0])
        was_open, left = breaker.state != "closed", breaker.pause_left_s
        assert 0.0 <= left <= 60.0 + 1e-6
        if (permit := breaker.permit()) is not None:
            assert not (was_open and left > 0), "asked during a pause"
            out.append((permit, was_open))
        elif was_open and left == 0:
            assert breaker.state == "probing", "nobody may ask though the pause is over"
        assert sum(is_probe for _, is_probe in out) <= 1, "two probes at a time"
        if out and random.random() < 0.7:
            permit, is_probe = out.pop(random.randrange(len(out)))
            before = breaker.state
            result = random.choice(["ok", "failed", "failed", "failed", "left"])
            {"ok": permit.succeed, "failed": permit.fail, "left": permit.leave}[result]()
            if before == "probing" and is_probe and breaker.state != "probing":
                assert breaker.state == ("closed" if result == "ok" else "open")
    for permit, _ in out:
        permit.leave()
    clock.now += 60.0
    assert breaker.permit() is not None, "stuck for ever"
