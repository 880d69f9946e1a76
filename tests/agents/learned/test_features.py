"""What a classifier sees: bounded, finite, and different where it matters."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rudder.agents.learned.planner import FEATURES, Features, features_of
from rudder.memory.sample import sample_workload
from rudder.training.settings import BufferSettings, Change, FetchTargets
from tests.agents.steered import observation_of

WORKLOAD = sample_workload()


def seen(change: Change, **observed: object) -> dict[str, float]:
    x = features_of(observation_of(**observed), change=change, workload=WORKLOAD)
    return dict(zip(FEATURES, x.tolist(), strict=True))


numbers = st.one_of(st.none(), st.floats(0, 1e12))
settings = st.builds(
    BufferSettings,
    capacity_rows=st.integers(0, 2**31 - 1),
    lookahead_batches=st.integers(0, 1024),
    eviction_threshold=st.floats(0, 1),
)


@given(settings, settings, numbers, numbers, st.floats(0, 1e9), st.integers(0, 2**31 - 1))
def test_features_are_finite_and_small_whatever_was_seen(
    old: BufferSettings,
    new: BufferSettings,
    headroom: float | None,
    spare_ms: float | None,
    wait_ms: float,
    working_set: int,
) -> None:
    x: Features = features_of(
        observation_of(
            settings=old, headroom_rows=headroom, spare_ms=spare_ms, exposed_wait_ms=wait_ms,
            working_set_rows=working_set, rows_fetched=0.0, step_ms=1e-3,
        ),
        change=Change.between(old, new),
        workload=WORKLOAD,
    )  # fmt: skip
    assert x.shape == (len(FEATURES),)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert np.abs(x).max() <= 8


def test_each_part_of_a_change_is_seen() -> None:
    present = observation_of().settings
    nothing = seen(Change())
    changes = {
        "capacity change": Change(capacity_rows=2 * present.capacity_rows),
        "lookahead change": Change(lookahead_batches=2 * present.lookahead_batches),
        "threshold change": Change(eviction_threshold=0.5),
        "interval set": Change(replacement_interval=32),
        "round now": Change(replace_now=True),
        "rows targeted": Change(fetch_targets=FetchTargets(source="degree", row_budget=100)),
    }
    for name, change in changes.items():
        assert seen(change)[name] != nothing[name]
    assert abs(seen(changes["capacity change"])["capacity change"] - 1) < 0.01


def test_the_policy_is_seen() -> None:
    x = seen(Change())
    assert x["policy lookahead"] == 1
    assert sum(value for name, value in x.items() if name.startswith("policy ")) == 1
