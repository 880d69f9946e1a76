from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.memory.past import recall
from rudder.memory.past.circumstances import NUM_FEATURES, UNIT, circumstances, completed, signature
from rudder.memory.past.experience import Experience, PastEpisode
from rudder.memory.past.recall import NearestIndex, Recall
from rudder.memory.records import Episode
from rudder.memory.sample import sample_episode, sample_workload
from rudder.training.workload import Workload

WORK = sample_workload()


def remember(
    path: Path, episodes: list[Episode], *, work: Workload = WORK, trusted: bool = True
) -> None:
    with Experience(path) as experience:
        past = [
            PastEpisode(
                origin="somewhere",
                ended_at="2026-01-01T00:00:00.000000Z",
                workload=work,
                episode=episode,
            )
            for episode in episodes
        ]
        experience.add(past, trusted=trusted)


def recalled_ids(path: Path, like: Episode, *, work: Workload = WORK, limit: int = 5) -> list[str]:
    recall = Recall(path)
    found = recall.recall(like.observation, work, limit=limit)
    recall.close()
    assert [each.distance for each in found] == sorted(each.distance for each in found)
    return [each.episode.episode_id for each in found]


def with_result(episode: Episode, result: str, *, name: str, wait_ms: float = 9.0) -> Episode:
    assert episode.outcome is not None
    outcome = episode.outcome.model_copy(update={"result": result, "wait_ms_after": wait_ms})
    return episode.model_copy(update={"episode_id": name, "outcome": outcome})


@pytest.mark.parametrize("few", [0, 1000])
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 8), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_nearest_is_what_sorting_all_would_give(
    few: int, seed: int, num_rows: int, limit: int, spread: int
) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.integers(0, spread, size=(num_rows, NUM_FEATURES), dtype=np.uint8)
    numbers = draw.permutation(num_rows).astype(np.int64)
    point = draw.integers(0, spread, size=NUM_FEATURES, dtype=np.uint8)
    squares = ((rows.astype(int) - point.astype(int)) ** 2).sum(axis=1)
    expected = sorted(zip(squares.tolist(), (-numbers).tolist(), strict=True))[:limit]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recall, "_FEW", few)
        found = NearestIndex(rows, numbers).nearest(point, limit=limit)
    assert [(round((near.distance * UNIT) ** 2), -near.number) for near in found] == expected


@pytest.mark.parametrize("size", [5000, 12_000])
def test_an_index_longer_than_a_block_is_read_to_its_end(size: int) -> None:
    rows = np.full((size, NUM_FEATURES), 100, dtype=np.uint8)
    rows[[0, 2048, size - 1]] = 7
    index = NearestIndex(rows, np.arange(size, dtype=np.int64))
    found = index.nearest(np.full(NUM_FEATURES, 7, dtype=np.uint8), limit=4)
    assert [near.number for near in found] == [size - 1, 2048, 0, size - 2]


@pytest.mark.parametrize("stored", [None, "text", 7])
def test_circumstances_that_a_damaged_page_holds_are_told(stored: object) -> None:
    with pytest.raises(ValueError, match="circumstances are damaged"):
        completed(stored)


def test_circumstances_are_near_for_like_and_far_for_unlike() -> None:
    seen = sample_episode(0, workload=WORK).observation
    here = circumstances(seen, WORK).astype(int)
    close = circumstances(seen.model_copy(update={"rows_fetched": seen.rows_fetched + 1}), WORK)
    far = circumstances(seen.model_copy(update={"hit_fraction": 0.01}), WORK)
    other = circumstances(seen, sample_workload(halo=40_000_000))
    distances = [np.linalg.norm(here - each.astype(int)) for each in (close, far, other)]
    assert distances[0] <= 1
    assert min(distances[1:]) > 10


def test_what_is_not_known_of_a_run_can_still_be_compared() -> None:
    seen = sample_episode(0, workload=WORK).observation
    empty = seen.model_copy(
        update={"steps_left": None, "hit_fraction": None, "headroom_rows": None,
                "working_set_rows": None, "rows_fetched": 0.0, "step_ms": 0.0}
    )  # fmt: skip
    vector = circumstances(empty, WORK.model_copy(update={"num_halo": 0}))
    assert vector.dtype == np.uint8
    assert len(vector) == NUM_FEATURES


def test_the_same_work_has_the_same_signature_in_every_run() -> None:
    again = WORK.model_copy(update={"run_key": "ff", "max_buffer_rows": 7, "epochs": 1})
    assert signature(again) == signature(WORK)
    assert signature(sample_workload(rank=1)) != signature(WORK)


def test_equal_circumstances_come_back_newest_first(tmp_path: Path) -> None:
    path, one = tmp_path / "memory.db", sample_episode(0, workload=WORK)
    remember(path, [with_result(one, "kept", name=f"e{number}") for number in range(9)])
    assert recalled_ids(path, one, limit=3) == ["e8", "e7", "e6"]


def test_good_and_bad_come_back_even_where_others_are_nearer(tmp_path: Path) -> None:
    path, one = tmp_path / "memory.db", sample_episode(0, workload=WORK)
    kept = [with_result(one, "kept", name=f"kept{number}") for number in range(9)]
    good = with_result(sample_episode(1, workload=WORK), "confirmed", name="good")
    bad = with_result(sample_episode(2, workload=WORK), "reverted", name="bad")
    remember(path, [good, bad, *kept])
    found = recalled_ids(path, one)
    assert found[:3] == ["kept8", "kept7", "kept6"]
    assert set(found[3:]) == {"good", "bad"}


def test_the_best_of_the_same_work_comes_back_however_far(tmp_path: Path) -> None:
    path, one = tmp_path / "memory.db", sample_episode(0, workload=WORK)
    near = [with_result(one, "confirmed", name=f"near{n}", wait_ms=5.0) for n in range(9)]
    best = with_result(sample_episode(7, workload=WORK), "confirmed", name="best", wait_ms=0.1)
    remember(path, [best, *near])
    assert recalled_ids(path, one)[-1] == "best"
    elsewhere = sample_workload(rank=1, halo=41_000)
    assert "best" not in recalled_ids(path, one, work=elsewhere)


def test_without_effect_without_trust_or_of_another_policy_nothing_comes_back(
    tmp_path: Path,
) -> None:
    path, one = tmp_path / "memory.db", sample_episode(0, workload=WORK)
    remember(path, [with_result(one, "refused", name="r"), with_result(one, "expired", name="x")])
    remember(path, [with_result(one, "confirmed", name="foreign")], trusted=False)
    lru = WORK.model_copy(update={"policy": "lru"})
    remember(path, [with_result(one, "confirmed", name="lru")], work=lru)
    assert recalled_ids(path, one) == []
    with Experience(path) as experience:
        assert experience.trust("somewhere") == 1
    assert recalled_ids(path, one) == ["foreign"]


def test_a_vector_of_an_earlier_version_is_completed_with_what_is_unknown() -> None:
    old = bytes(range(NUM_FEATURES - 2))
    unknown = bytes([UNIT // 2])
    assert completed(old) == old + 2 * unknown
    assert completed(completed(old)) == completed(old)
