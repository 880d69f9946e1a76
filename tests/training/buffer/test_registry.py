"""Policies by name, and variants as text."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.training.buffer.registry import POLICIES, PolicyOptions, make_policy, parse_variant
from rudder.training.config import run_config
from rudder.training.errors import ConfigError
from rudder.training.settings import BufferSettings
from tests.training.buffer.player import view_of

VIEW = view_of(20)
SETTINGS = BufferSettings(capacity_rows=5)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_can_be_made_by_its_name_and_observes_and_plans(name: str) -> None:
    policy = make_policy(name, VIEW, SETTINGS)
    policy.observe(np.arange(4))
    assert len(policy.plan(np.arange(4)).misses) == 4


def test_the_config_takes_the_same_policies() -> None:
    assert [run_config(policy=name).policy for name in POLICIES] == list(POLICIES)
    for name in ("fifo", "lru", "score:interval=8 "):
        with pytest.raises(ConfigError, match="policy"):
            run_config(policy=name)


def test_a_variant_sets_options() -> None:
    assert parse_variant("lfu") == ("lfu", PolicyOptions())
    assert parse_variant("score:interval=8+alpha=0.5+start=random+faithful=true") == (
        "score",
        PolicyOptions(replacement_interval=8, alpha=0.5, start="random", faithful=True),
    )
    assert parse_variant("static:source=vip")[1].source == "vip"


def test_what_a_variant_does_not_set_stays_as_it_was() -> None:
    known = PolicyOptions(fanouts=(3,), alpha=0.2)
    _, options = parse_variant("score:interval=1", known)
    assert options == PolicyOptions(fanouts=(3,), alpha=0.2, replacement_interval=1)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("fifo", "lookahead, score"),
        ("", "lookahead, score"),
        ("lru", "lru, s3fifo and sieve: only in `rudder simulate`"),
        ("score:delta=1", "interval, alpha, start, faithful"),
        ("lfu:alpha=1", "lfu has no options"),
        ("score:alpha=1", "between 0 and 1"),
        ("score:alpha=nan", "between 0 and 1"),
        ("score:interval=x", "0 to 1000000"),
        ("score:interval=-1", "0 to 1000000"),
        ("score:interval", "0 to 1000000"),
        ("score:start=full", "empty, degree, random"),
        ("score:faithful=maybe", "true, 1, false, 0"),
        ("static:source=magic", "degree, presample, vip"),
    ],
)
def test_a_wrong_variant_is_refused_with_what_is_allowed(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse_variant(text)


def test_an_unknown_policy_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="lookahead, score"):
        make_policy("fifo", VIEW, SETTINGS)


def test_vip_needs_fan_outs() -> None:
    with pytest.raises(ConfigError, match="fan-outs"):
        make_policy("static", VIEW, SETTINGS, PolicyOptions(source="vip"))
