"""What a run may ask, and how trainers keep out of each other's way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rudder.agents.llm.breaker import Budget, Stagger


def test_the_last_call_is_allowed_and_the_next_is_not() -> None:
    budget = Budget(max_calls=2, max_tokens=1000)
    budget.spend_call()
    assert budget.allows(tokens=10)
    budget.spend_call()
    assert not budget.allows(tokens=10)


def test_a_call_that_would_pass_the_tokens_is_not_allowed() -> None:
    budget = Budget(max_calls=10, max_tokens=1000)
    budget.spend_tokens(900)
    assert budget.allows(tokens=100)
    assert not budget.allows(tokens=101)


def test_a_run_without_calls_never_asks() -> None:
    assert not Budget(max_calls=0, max_tokens=1000).allows(tokens=0)


@given(st.integers(2, 64), st.floats(0.1, 60.0), st.integers(0, 99))
def test_ranks_wait_for_parts_of_the_span_that_do_not_overlap(
    world_size: int, deadline_s: float, seed: int
) -> None:
    span = min(1.0, 0.1 * deadline_s)
    for rank in range(world_size):
        stagger = Stagger(rank=rank, world_size=world_size, deadline_s=deadline_s, seed=seed)
        delay = stagger.delay_s()
        low, high = span * rank / world_size, span * (rank + 1) / world_size
        assert low <= delay <= high + 1e-9


def test_a_single_trainer_does_not_wait() -> None:
    assert Stagger(rank=0, world_size=1, deadline_s=10.0).delay_s() == 0.0
