"""Variants on one line."""

from __future__ import annotations

import pytest

from rudder.bench.variants import Variant, parse_variants
from rudder.training.config import BufferSize, RunConfig
from rudder.training.errors import ConfigError

BASE = RunConfig(batch_size=64, lookahead=8)


def test_stock_is_the_other_loader() -> None:
    assert Variant(text="stock").config(BASE).loader == "stock"


def test_options_of_the_policy_and_of_the_loader_go_where_they_belong() -> None:
    config = Variant(text="score:interval=4+buffer=0.5+alpha=0.1+lookahead=3").config(BASE)
    assert config.policy == "score"
    assert (config.replacement_interval, config.alpha) == (4, 0.1)
    assert config.buffer == BufferSize(amount=0.5, unit="halo_fraction")
    assert (config.lookahead, config.batch_size) == (3, 64)


def test_what_is_not_said_is_the_run_s() -> None:
    config = Variant(text="lookahead").config(BASE)
    assert (config.loader, config.policy, config.lookahead) == ("rudder", "lookahead", 8)


def test_floor_keeps_nothing() -> None:
    assert Variant(text="floor").config(BASE).policy == "none"


@pytest.mark.parametrize(
    "text", ["nonsense", "lookahead:interval=4", "stock:buffer=0.5", "lookahead:buffer=lots",
             "lookahead:buffer"],
)  # fmt: skip
def test_what_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Variant(text=text).config(BASE)


def test_a_list_has_commas_and_no_name_twice() -> None:
    names = [variant.text for variant in parse_variants("stock, score:interval=1,lookahead")]
    assert names == ["stock", "score:interval=1", "lookahead"]
    for text in ("stock,stock", "", ","):
        with pytest.raises(ConfigError, match="different names"):
            parse_variants(text)


def test_a_variant_is_fixed_unless_its_controller_is_on() -> None:
    assert Variant(text="lookahead").config(BASE).steering is None
    assert Variant(text="stock").config(BASE).steering is None
    steered = Variant(text="lookahead:controller=on+planner=heuristic").config(BASE).steering
    assert steered is not None
    assert (steered.planner, steered.memory) == ("heuristic", None)


def test_the_run_s_language_model_is_asked_by_the_planner_llm_alone() -> None:
    base = BASE.model_copy(update={"llm": "http://localhost:1/v1", "llm_model": "m"})
    steered = {
        name: Variant(text=f"lookahead:controller=on+planner={name}").config(base).steering
        for name in ("embedded", "llm")
    }
    assert steered["embedded"] is not None
    assert (steered["embedded"].planner, steered["embedded"].llm_url) == ("embedded", None)
    assert steered["llm"] is not None
    assert (steered["llm"].planner, steered["llm"].llm_model) == ("llm", "m")
    other = Variant(text="lookahead:controller=on+planner=llm+llm_model=n").config(base)
    assert (other.llm, other.llm_model) == (base.llm, "n")
    with pytest.raises(ConfigError, match="needs an address"):
        Variant(text="lookahead:controller=on+planner=llm").config(BASE)


def test_a_variant_may_begin_with_an_eviction_threshold() -> None:
    assert Variant(text="lookahead:eviction_threshold=0").config(BASE).eviction_threshold == 0
    assert Variant(text="lookahead").config(BASE).eviction_threshold is None


@pytest.mark.parametrize(
    "options",
    ["planner=fixed", "controller=none+planner=fixed", "controller=maybe",
     "eviction_threshold=2", "controller=on+planner=somebody"],
)  # fmt: skip
def test_options_of_controllers_that_cannot_be_are_refused(options: str) -> None:
    with pytest.raises(ConfigError):
        Variant(text=f"lookahead:{options}").config(BASE)
