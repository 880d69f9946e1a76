"""What a run may ask."""

from __future__ import annotations

from rudder.agents.llm.breaker import Budget


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
