from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rudder.memory.migrations import RUN_FILE
from rudder.memory.run.slices import PrunedUses, Slices, read_pruned_uses, save_pruned_uses
from rudder.memory.store import Store, insert
from rudder.tools.estimate.past_uses import PastUses
from rudder.training.metrics import AccessSlice, NodeArray

RNG = np.random.default_rng(0)


def batch() -> NodeArray:
    return RNG.choice(500, size=90, replace=False).astype(np.int32)


def assert_equal(one: PastUses, other: PastUses) -> None:
    assert one.nodes.tolist() == other.nodes.tolist()
    assert one.sums.tobytes() == other.sums.tobytes()
    assert (one.total, one.weight) == (other.total, other.weight)


def test_sums_are_those_of_a_history_to_the_last_digit() -> None:
    windows = [[batch() for _ in range(7)] for _ in range(9)]
    past, sums = PastUses(), None
    for window in windows:
        for nodes in window:
            past.add(nodes.astype(np.int64))
    for part in (windows[:4], windows[4:]):
        sums = PrunedUses.of((AccessSlice.of(each, rate=0.5) for each in part), before=sums)
    assert sums is not None
    assert_equal(sums.uses, past)
    assert set(sums.uses.nodes.tolist()) == {n for w in windows for b in w for n in b.tolist()}


def test_a_new_rate_begins_anew() -> None:
    slices = [AccessSlice.of([batch()], rate=rate) for rate in (0.5, 0.5, 0.25)]
    sums = PrunedUses.of(slices)
    assert sums.rate == 0.25
    assert sums.uses.sums.tolist() == [1.0] * 90


@pytest.mark.parametrize("times", [1, 2])
def test_sums_are_read_as_they_were_saved(tmp_path: Path, times: int) -> None:
    sums = PrunedUses.of([AccessSlice.of([batch(), batch()], rate=0.5)])
    store = Store.open(tmp_path / "rank0.db", migrations=RUN_FILE)
    for _ in range(times):
        with store.transaction() as db:
            save_pruned_uses(db, sums, first_window=3)
    found = read_pruned_uses(store.db, 3)
    assert found is not None
    assert found.rate == sums.rate
    assert_equal(found.uses, sums.uses)
    assert read_pruned_uses(store.db, 4) is None
    store.close()


def test_sessions_are_looked_up_once_however_often_slices_are_pruned(tmp_path: Path) -> None:
    """A query for each pruned slice took 10 s after 55,000 decisions."""
    store = Store.open(tmp_path / "rank0.db", migrations=RUN_FILE)
    accesses, asked = AccessSlice.of([batch(), batch()], rate=0.5), list[str]()
    with store.transaction() as db:
        insert(db, "decision_inputs", {
            "episode_id": "e", "session": 1, "first_window": 4, "content": "{}",
        })  # fmt: skip
        slices = Slices(db, first_window=11, max_bytes=2000)
        db.conn.set_trace_callback(asked.append)
        for number in range(1, 41):
            list(slices.add(db, accesses, number=number, window=number))
        left = [number for (number,) in db.conn.execute("SELECT number FROM slices")]
        sums = db.conn.execute("SELECT first_window FROM pruned_uses").fetchall()
    assert len(left) < 10
    assert sums == [(1,), (4,), (11,)]
    assert sum("decision_inputs" in sql for sql in asked) == 1
    store.close()
