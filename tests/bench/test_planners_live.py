"""Planners in real jobs: what each variant is, and what several jobs say together."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rudder.bench.planners_live import (
    PUBLISHED,
    PUBLISHED_LLM,
    UNSTEERED,
    LiveJob,
    LivePlanner,
    variant_of,
)
from rudder.bench.results import Spread
from rudder.cli.show.bench import live_table
from rudder.training.config import RunConfig
from rudder.training.metrics import ModelUse, SteeringCounts

BASE = RunConfig(llm="http://localhost:1/v1", llm_model="m")


def job(seconds: float, *errors: float, models: int = 0) -> dict[str, LiveJob]:
    model = ModelUse(name="m", questions=4, valid_first=3) if models else None
    counts = SteeringCounts(applied=2, confirmed=1, reverted=1, rows_errors=errors, model=model)
    return {
        "llm": LiveJob(seconds, (counts,) * max(models, 1), seconds, 100, hit_fraction=0.5),
        UNSTEERED: LiveJob(20.0, (), None, 200, hit_fraction=None),
    }


def test_all_planners_start_alike_and_only_llm_asks_the_model() -> None:
    configs = {
        name: variant_of(name).config(BASE) for name in (UNSTEERED, "fixed", "embedded", "llm")
    }
    assert len({(str(each.buffer), each.lookahead) for each in configs.values()}) == 1
    assert configs[UNSTEERED].steering is None
    asking = {name: each.llm is not None for name, each in configs.items()}
    assert asking == {UNSTEERED: False, "fixed": False, "embedded": False, "llm": True}


def test_the_published_planner_has_its_own_buffer_and_asks_a_model_only_where_told() -> None:
    for name, asks in ((PUBLISHED, False), (PUBLISHED_LLM, True)):
        config = variant_of(name, start="buffer=0.25").config(BASE)
        assert (config.policy, config.replacement_interval) == ("score", 0)
        assert (config.llm is not None) == asks
        assert config.steering is not None
        assert config.steering.planner == "published"


def test_a_learned_planner_is_given_its_file(tmp_path: Path) -> None:
    steering = variant_of("lr", model_file=tmp_path / "lr.model").config(BASE).steering
    assert steering is not None
    assert (steering.planner, steering.planner_model) == ("lr", tmp_path / "lr.model")


def test_jobs_together_give_medians_sums_and_the_spread_of_ratios() -> None:
    both = LivePlanner.of("llm", [job(10, 0.1), job(30), job(20, -0.3)])
    assert (both.seconds, both.applied, both.reverted) == (20, 6, 3)
    assert both.to_unsteered == Spread(min=0.5, median=1.0, max=1.5)
    assert both.to_embedded is None
    assert both.rows_error == pytest.approx(0.2)
    assert (both.step_ms_p99, both.rows_fetched, both.hit_fraction) == (20, 100, 0.5)


def test_the_table_has_what_a_model_was_good_for() -> None:
    out = io.StringIO()
    found = LivePlanner.of("llm", [job(10, models=2)])
    Console(file=out, width=120).print(live_table([found]))
    assert "75.0 %" in out.getvalue()
    assert "0.500" in out.getvalue()
    assert "0.50-0.50" in out.getvalue()
