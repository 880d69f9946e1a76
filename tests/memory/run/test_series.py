"""A run's measurements over time, as reports and diagnoses read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rudder.memory.journal import AuditEntry
from rudder.memory.run.diagnosis import diagnose
from rudder.memory.run.run_folder import RunFacts, StoredRun, find_runs
from rudder.memory.run.run_reader import RunReader, run_file
from rudder.memory.run.series import Point, RankSeries, read_series
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.memory.sample import sample_workload, write_sample_run
from rudder.training.errors import DataError
from rudder.training.metrics import OwnerTraffic, RowCounts, Seconds
from rudder.training.settings import BufferSettings
from tests.cli.show.test_summary import epoch, report, summary_of


def series_of(paths: list[Path], *, num_points: int = 100) -> list[RankSeries]:
    return read_series(paths, (), num_points=num_points)


def test_points_are_means_per_step_at_the_times_of_the_log(tmp_path: Path) -> None:
    path = write_sample_run(tmp_path, num_episodes=2)[1]
    with RunReader(path) as reader:
        windows = reader.windows()
    (found,) = series_of([path])
    assert found.rank == 1
    assert [point.step for point in found.points] == [16, 32, 48, 64, 80, 96]
    last, window = found.points[-1], windows[-1]
    assert last.step_ms == pytest.approx(1000 * 0.4 / 16)
    assert last.wait_ms == pytest.approx(1000 * window.seconds.exposed_wait / 16)
    assert last.hit_fraction == pytest.approx(window.rows.hit_fraction)
    assert last.bytes_fetched == pytest.approx(window.rows.bytes_fetched / 16)
    assert last.settings == window.settings
    times = [point.at_s for point in found.points]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 60
    assert found.owners[0].rows == sum(each.owners[0].rows for each in windows)


def test_many_windows_are_added_up_to_as_many_points_as_wanted(tmp_path: Path) -> None:
    (path, _) = write_sample_run(tmp_path, num_episodes=5)
    (fine,), (coarse,) = series_of([path]), series_of([path], num_points=4)
    assert len(fine.points) == 15
    assert [point.num_steps for point in coarse.points] == [64, 64, 64, 48]
    for name in ("rows_fetched", "wait_ms", "step_ms"):
        sums = [sum(getattr(p, name) * p.num_steps for p in s.points) for s in (fine, coarse)]
        assert sums[0] == pytest.approx(sums[1])
    assert coarse.points[-1] != fine.points[-1]
    assert coarse.points[-1].settings == fine.points[-1].settings


def test_decisions_people_and_faults_are_marked_when_they_happened(tmp_path: Path) -> None:
    (path, _) = write_sample_run(tmp_path, num_episodes=3)
    journal = SqliteJournal.open(path, memory=None)
    journal.begin(sample_workload())
    for agent, tool in (("user", "set_buffer"), ("trainer", "fall_back"), ("act", "decide")):
        failed = {"outcome": "failed", "error_type": "ValueError"} if agent == "act" else {}
        journal.log(
            AuditEntry.model_validate(
                {"kind": "note", "call_id": agent, "agent": agent, "tool": tool, "step": 150}
                | failed
            )
        )
    journal.close()
    (found,) = series_of([path])
    kinds = [mark.kind for mark in found.marks]
    assert kinds == ["kept", "kept", "undone", "fault", "person", "fault", "fault"]
    assert [mark.row.tool for mark in found.marks if mark.row] == [
        "begin_session", "set_buffer", "fall_back", "decide",
    ]  # fmt: skip
    assert [mark.at_s for mark in found.marks] == sorted(mark.at_s for mark in found.marks)


def test_a_run_without_a_record_has_a_point_for_each_epoch() -> None:
    rows = RowCounts(remote_rows=10)
    epochs = [epoch(number, seconds=2.0, rows=rows) for number in range(3)]
    (found,) = read_series([], summary_of(report(0, *epochs)).ranks, num_points=100)
    (stock,) = read_series([], [report(0, *epochs, settings=None)], num_points=100)
    assert [point.hit_fraction for point in stock.points] == [None] * 3  # it has no buffer
    assert [point.hit_fraction for point in found.points] == [0.0] * 3
    assert [point.at_s for point in found.points] == [2.0, 4.0, 6.0]
    assert found.points[0].step_ms == pytest.approx(2000 / epochs[0].num_steps)
    assert found.points[0].settings is None
    assert [end.at_s for end in found.epochs] == [2.0, 4.0, 6.0]


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    paths = write_sample_run(tmp_path, num_episodes=1)
    paths[0].write_bytes(b"no database" * 500)
    assert [found.rank for found in series_of(paths)] == [1]


def test_a_folder_tells_how_its_run_stands(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the folder of a run"):
        StoredRun(tmp_path)
    write_sample_run(tmp_path / "a", num_episodes=1)
    run = StoredRun(tmp_path / "a")
    assert (run.state, run.summary, run.error) == ("over", None, None)
    (tmp_path / "a" / "config.toml").write_text("")
    assert run.state == "cut short"
    summary = summary_of(report(0, epoch(0)))
    (tmp_path / "a" / "summary.json").write_text(summary.model_dump_json())
    facts = RunFacts.of(StoredRun(tmp_path / "a"))
    assert (facts.state, facts.epochs, facts.score) == ("finished", 1, 0.75)
    (tmp_path / "a" / "error.txt").write_text("no memory\n  what to do: more\n")
    assert StoredRun(tmp_path / "a").state == "failed"
    (tmp_path / "no run").mkdir()
    assert [each.folder.name for each in find_runs(tmp_path)] == ["a"]
    assert find_runs(tmp_path / "nowhere") == []


def test_a_summary_of_another_version_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"run_dir": "runs/a"}))
    run = StoredRun(tmp_path)
    assert (run.state, run.summary) == ("finished", None)
    assert run.series(num_points=10) == []


def test_settings_of_another_kind_are_not_known(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        'hosts = [1]\ntrainers_per_host = "x"\nplanner = 7\nmodel = "gat"\n'
    )
    facts = RunFacts.of(StoredRun(tmp_path))
    assert (facts.hosts, facts.trainers_per_host, facts.planner) == (None, None, None)
    assert facts.model == "gat"


# -- what binds a rank -------------------------------------------------------------------------


def point(
    *,
    compute: float = 20.0,
    wait: float = 0.0,
    blocked: float = 0.0,
    pull: float = 2.0,
    work: float = 5.0,
    capacity: int = 4000,
) -> Point:
    return Point(
        at_s=1.0, epoch=0, step=1000, num_steps=1000, trained_s=compute + wait,
        seconds=Seconds(
            sample=work, pull=pull, exposed_wait=wait, compute=compute, blocked=blocked
        ),
        hit_fraction=0.5, rows_fetched=1000, bytes_fetched=2**20,
        settings=BufferSettings(capacity_rows=capacity),
    )  # fmt: skip


def rank(number: int, *, owners: tuple[OwnerTraffic, ...] = (), **values: float) -> RankSeries:
    made = point(**values)  # type: ignore[arg-type]  # capacity is whole
    work = sample_workload(rank=0).model_copy(update={"max_buffer_rows": 4000})
    return RankSeries(number, (made,), workload=work, owners=owners)


def bound_of(*ranks: RankSeries) -> list[str]:
    return [each.bound for each in diagnose(ranks)]


def test_what_binds_a_rank_follows_from_what_it_measured() -> None:
    assert bound_of(rank(0)) == ["compute"]
    assert bound_of(rank(0, wait=10, pull=25, capacity=100)) == ["link"]
    assert bound_of(rank(0, wait=10, pull=25)) == ["memory"]
    assert bound_of(rank(0, wait=10, pull=5, work=25)) == ["processors"]
    assert bound_of(rank(0, blocked=15), rank(1)) == ["imbalance", "compute"]
    assert bound_of(rank(0, blocked=15), rank(1, blocked=15, pull=15)) == ["compute", "link"]
    assert bound_of(rank(0, blocked=15), rank(1, compute=6, wait=14, pull=20, capacity=9)) == [
        "imbalance", "link",
    ]  # fmt: skip
    assert bound_of(RankSeries(0)) == ["unknown"]


def test_a_partition_that_answers_slowly_is_named() -> None:
    owners = tuple(
        OwnerTraffic(part=part, rows=100, pulls=10, seconds=0.5 if part == 2 else 0.1)
        for part in (1, 2, 3)
    )
    (found,) = diagnose([rank(0, wait=10, pull=25, owners=owners)])
    assert found.bound == "owner"
    assert found.evidence[-1] == "partition 2 answers in 50.0 ms, the others in 10.0 ms"
    assert "a step takes 30.0 ms: 20.0 ms compute, 10.0 ms exposed wait (33%)" in found.evidence


def test_windows_after_a_row_are_read_with_their_numbers(tmp_path: Path) -> None:
    write_sample_run(tmp_path, num_episodes=3)
    with RunReader(run_file(tmp_path, rank=0)) as reader:
        last = reader.windows()[-1]
        assert [each for _, each in reader.windows_after(8)] == [last]
        first, *_ = reader.windows_after(None)
        assert first[1].epoch == last.epoch == 1
        assert reader.windows_after(9) == []
