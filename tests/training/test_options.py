"""Options refuse what cannot be before a loader starts, with class, field and range."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rudder.training.config import BufferSize, run_config
from rudder.training.errors import ConfigError
from rudder.training.loader import BufferOptions, RunOptions, SteeringOptions
from rudder.training.options import Options
from rudder.training.sources import buffer_options


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: BufferOptions(lookahead=5000), r"BufferOptions.lookahead = 5000 .* 1024"),
        (lambda: BufferOptions(eviction_threshold=-0.1), r"eviction_threshold = -0.1 .* 0"),
        (lambda: BufferOptions(eviction_threshold=float("nan")), r"eviction_threshold = nan"),
        (lambda: BufferOptions(memory_budget_bytes=-1), r"memory_budget_bytes = -1"),
        (lambda: BufferOptions(size=True), r"BufferOptions.size = True .* bytes \(64MiB\)"),
        (lambda: BufferOptions(size="0,5"), r"BufferOptions.size = '0,5' .* bytes \(64MiB\)"),
        (lambda: BufferOptions(policy="lru"), r"policy = 'lru' .* only in `rudder simulate`"),
        (lambda: BufferOptions(policy="score:alpha=2"), r"score:alpha = '2' .* between 0 and 1"),
        (
            lambda: BufferOptions.model_validate({"colour": 1}),
            r"BufferOptions.colour .* use one of: size",
        ),
        (lambda: RunOptions(folder=7), r"RunOptions.folder = 7 .* path"),
        (lambda: RunOptions(on_window=3), r"RunOptions.on_window = 3 .* callable"),
        (lambda: RunOptions(timeout_s=0), r"RunOptions.timeout_s = 0 .* greater than 0"),
        (lambda: SteeringOptions(tolerance=2), r"SteeringOptions.tolerance = 2"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(make: Callable[[], Options], named: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){named}"):
        make()


def test_values_are_read_in_the_forms_that_people_write() -> None:
    assert BufferOptions(size=20000).buffer_size == BufferSize.parse("20000")
    assert BufferOptions(size=0.25).buffer_size == BufferSize.parse("0.25")
    assert BufferOptions(size="64MiB").buffer_size == BufferSize.parse("64MiB")
    assert BufferOptions(lookahead=np.int32(5)).lookahead == 5
    assert RunOptions(folder=Path("a/b")).folder == Path("a/b")


def test_a_run_s_config_gives_its_buffer_s_options() -> None:
    config = run_config(policy="score", alpha=1e-5, replacement_interval=7, score_faithful=True)
    name, options = buffer_options(config).policy_and_options
    assert (name, options.alpha, options.replacement_interval) == ("score", 1e-5, 7)
    assert (options.start, options.faithful) == ("degree", True)
    static = buffer_options(run_config(policy="static", static_source="vip")).policy_and_options
    assert (static[0], static[1].source) == ("static", "vip")
    assert buffer_options(run_config(policy="none")).policy_and_options[0] == "none"
