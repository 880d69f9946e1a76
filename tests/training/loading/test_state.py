"""A loader goes on where another one stopped: same batches, same settings, a full buffer again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rudder.training.buffer.registry import PolicyOptions, make_policy
from rudder.training.errors import ConfigError
from rudder.training.loading.state import LoaderState, check_resumable, restore
from rudder.training.settings import BufferSettings
from tests.training.loading.small_world import FANOUTS, HERE, VIEWS, World, wrong_rows

VIEW = VIEWS[HERE]
BUFFERED = np.array([1, 4, 70, 80])
STATE = LoaderState(
    epoch=2,
    batch=3,
    step=11,
    window=1,
    run_key="run",
    settings=BufferSettings(capacity_rows=10, lookahead_batches=7, eviction_threshold=0.5),
    buffered=BUFFERED,
)


@pytest.mark.parametrize("policy", ["lookahead", "lfu"])
def test_settings_are_in_force_and_buffered_rows_are_fetched_with_the_first_batch(
    policy: str,
) -> None:
    made = make_policy(
        policy, VIEW, BufferSettings(capacity_rows=4), PolicyOptions(fanouts=FANOUTS)
    )
    restore(made, replace(STATE, settings=made.settings.model_copy(update={"capacity_rows": 10})),
            max_rows=100)  # fmt: skip
    nodes = np.array([], dtype=np.int64)
    made.observe(nodes)
    plan = made.plan(nodes)
    assert made.settings.capacity_rows == 10
    assert set(BUFFERED) <= set(VIEW.to_global(plan.targets).tolist())


def test_a_host_with_less_memory_gets_a_smaller_buffer() -> None:
    made = make_policy("lookahead", VIEW, BufferSettings(capacity_rows=1), PolicyOptions())
    restore(made, STATE, max_rows=2)
    assert made.settings == STATE.settings.model_copy(update={"capacity_rows": 2})


@pytest.mark.parametrize("seed", range(5))
def test_a_pipeline_tells_whose_rows_it_has(seed: int) -> None:
    world = World(seed)
    world.add([world.seeds() for _ in range(6)])
    assert not any(wrong_rows(batch) for batch in world.finish())
    found = world.pipeline.buffered_nodes()
    assert len(found) == len(set(found.tolist())) == world.policy.num_buffered
    assert not VIEW.not_remote(found)


@pytest.mark.parametrize(
    ("seed", "num_batches", "named"),
    [(None, 5, "seed = None .*same seed"), (1, 2, "resume_from.batch = 3 .*0 to 2")],
)
def test_what_cannot_be_gone_on_with_is_refused(
    seed: int | None, num_batches: int, named: str
) -> None:
    with pytest.raises(ConfigError, match=f"(?s){named}"):
        check_resumable(STATE, seed=seed, num_batches=num_batches)
