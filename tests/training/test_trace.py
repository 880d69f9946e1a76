"""Recording: numbers written and read, calls kept in order, files cut, damaged or full."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.training.buffer.policies.lookahead import LookaheadBuffer
from rudder.training.buffer.policy import IntArray
from rudder.training.errors import DataError
from rudder.training.settings import BufferSettings, Change, FetchTargets
from rudder.training.simulate.recording import Recording, find_traces, read_recording
from rudder.training.simulate.replay import replay_calls
from rudder.training.simulate.study import make_policy_of
from rudder.training.trace import RecordedPolicy, TraceHeader, TraceWriter, from_bytes, to_bytes
from tests.training.buffer.player import view_of

NUM_REMOTE = 1000
VIEW = view_of(NUM_REMOTE)
SETTINGS = BufferSettings(capacity_rows=90)
CHANGES = (
    Change(capacity_rows=40),
    Change(lookahead_batches=3, eviction_threshold=0.2),
    Change(capacity_rows=200, fetch_targets=FetchTargets(source="degree", row_budget=50)),
    Change(replace_now=True),
    Change(fetch_targets=FetchTargets(source="degree", row_budget=20, while_idle=True)),
)


@given(st.integers(1, 7), st.data())
def test_numbers_are_read_as_they_were_written(num_bytes: int, data: st.DataObject) -> None:
    numbers = np.array(data.draw(st.lists(st.integers(0, 256**num_bytes - 1))), dtype=np.int64)
    written = to_bytes(numbers, num_bytes)
    assert len(written) == num_bytes * len(numbers)
    assert from_bytes(written, num_bytes).tolist() == numbers.tolist()


def header() -> TraceHeader:
    return TraceHeader(
        rank=0, part=VIEW.part, starts=tuple(VIEW.starts.tolist()), num_halo=len(VIEW.halo),
        row_bytes=8, batch_size=4, batches_per_epoch=10, fanouts=None, policy="lookahead",
        settings=SETTINGS,
    )  # fmt: skip


def batch(chance: random.Random) -> IntArray:
    count = chance.choice([0, 3, 100])
    return np.array(chance.sample(range(NUM_REMOTE), count), dtype=np.int64)


def record(file: Path, *, num_calls: int = 600, close: bool = True) -> list[tuple[int, int, int]]:
    """Make calls in any order; returns hits, misses and targets of each plan."""
    chance = random.Random(num_calls)
    writer = TraceWriter(file, header(), VIEW)
    policy = RecordedPolicy(LookaheadBuffer(VIEW, SETTINGS), writer)
    waiting: list[IntArray] = []
    planned = []
    for number in range(num_calls):
        if not waiting or chance.random() < 0.5:
            waiting.append(batch(chance))
            policy.observe(waiting[-1])
        elif chance.random() < 0.1:
            policy.skip(waiting.pop(0))
        else:
            plan = policy.plan(waiting.pop(0))
            planned.append((len(plan.hits), len(plan.misses), len(plan.targets)))
        if number % 100 == 50:
            policy.apply(CHANGES[number // 100 % len(CHANGES)])
        if number % 50 == 20 and policy.wants_rows:
            policy.fetch(7)
    if close:
        writer.close()
    return planned


def replayed(recording: Recording) -> list[tuple[int, int, int]]:
    counts = replay_calls(make_policy_of("lookahead", recording, SETTINGS), recording)
    rows = (counts.hits.tolist(), counts.misses.tolist(), counts.targets.tolist())
    return list(zip(*rows, strict=True))


def test_the_recorded_calls_make_the_same_plans_again(tmp_path: Path) -> None:
    planned = record(tmp_path / "rank0.trace")
    recording = read_recording(tmp_path / "rank0.trace")
    assert recording.is_whole
    assert recording.header == header()
    assert recording.planned.tolist() == [list(each) for each in planned]
    assert replayed(recording) == planned
    assert recording.view.halo_degree.tolist() == VIEW.halo_degree.tolist()
    assert recording.changes[: len(CHANGES)] == CHANGES
    assert sum(row[2] for row in planned) > 0


def test_batches_that_were_skipped_did_not_happen(tmp_path: Path) -> None:
    planned = record(tmp_path / "rank0.trace")
    recording = read_recording(tmp_path / "rank0.trace")
    waiting = recording.num_observed - len(recording.planned) - num_skipped(recording)
    assert len(recording.happened) == len(planned) + waiting
    assert num_skipped(recording) > 0


def num_skipped(recording: Recording) -> int:
    return recording.num_observed - len(recording.happened)


@pytest.mark.parametrize("lost", [1, 16, 17, 500, 5000])
def test_a_killed_run_is_read_up_to_its_last_whole_chunk(tmp_path: Path, lost: int) -> None:
    file = tmp_path / "rank0.trace"
    planned = record(file)
    whole = read_recording(file)
    file.write_bytes(file.read_bytes()[:-lost])
    cut = read_recording(file)
    assert not cut.is_whole
    assert replayed(cut) == planned[: len(cut.planned)]
    assert cut.nodes.tolist() == whole.nodes[: len(cut.nodes)].tolist()


def test_a_trace_that_was_never_closed_has_what_was_handed_over(tmp_path: Path) -> None:
    file = tmp_path / "rank0.trace"
    planned = record(file, close=False)
    while not len(found := read_recording(file).planned):
        pass
    assert [tuple(row) for row in found.tolist()] == planned[: len(found)]


@pytest.mark.parametrize("place", [20, 200, 600, 2000, -3000])
def test_a_damaged_trace_is_refused(tmp_path: Path, place: int) -> None:
    file = tmp_path / "rank0.trace"
    record(file)
    content = bytearray(file.read_bytes())
    content[place] ^= 0x10
    file.write_bytes(content)
    with pytest.raises(DataError, match="not a usable trace") as caught:
        read_recording(file)
    assert "--record-trace" in caught.value.remedy


def test_a_header_that_is_cut_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rank0.trace"
    record(file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="header"):
        read_recording(file)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_trace_and_not_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rank0.trace"
    writer = TraceWriter(file, header(), VIEW)
    with Path("/dev/full").open("wb", buffering=0) as full, writer._file:
        monkeypatch.setattr(writer, "_file", full)
        for number in range(300):
            writer.observe(np.array([number]))
        writer.close()
    assert capsys.readouterr().err.count("No space left") == 1


def test_traces_of_a_run_folder_come_in_the_order_of_ranks(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    for rank in (10, 2, 0):
        record(folder / f"rank{rank}.trace", num_calls=3)
    names = ["rank0.trace", "rank2.trace", "rank10.trace"]
    assert [file.name for file in find_traces([tmp_path])] == names
    assert [file.name for file in find_traces([folder])] == names
    with pytest.raises(DataError, match="there is no trace in"):
        find_traces([tmp_path, tmp_path / "nothing"])
