"""The live loader and the simulator are one code: same trace in, same counters out."""

from __future__ import annotations

from pathlib import Path

import pytest

from rudder.training.config import run_config
from rudder.training.launch.run import launch
from rudder.training.partition.prepare import data_of, prepare
from rudder.training.simulate.recording import find_traces, read_recording
from rudder.training.simulate.replay import replay_calls
from rudder.training.simulate.study import make_policy_of


@pytest.mark.distributed
def test_a_live_runs_batches_are_counted_alike_in_the_simulator(tmp_path: Path) -> None:
    data, run_dir = tmp_path / "parts", tmp_path / "run"
    prepare("synthetic:tiny", num_parts=2, out=data, progress=lambda text: None)
    config = run_config(
        controller="none",
        data=data,
        epochs=2,
        batch_size=128,
        buffer="0.3",
        lookahead=6,
        record_trace=True,
    )
    graph = data_of(config, progress=lambda text: None)
    reports = launch(config, graph=graph, run_dir=run_dir, on_event=lambda event: None)
    files = find_traces([run_dir])
    assert len(files) == len(reports) == 2
    for file, report in zip(files, reports, strict=True):
        recording = read_recording(file)
        assert recording.is_whole
        policy = make_policy_of("lookahead", recording, recording.header.settings)
        counts = replay_calls(policy, recording)
        assert counts.hits.tolist() == recording.planned[:, 0].tolist()
        assert counts.misses.tolist() == recording.planned[:, 1].tolist()
        rows = [epoch.rows for epoch in report.epochs]
        assert counts.hits.sum() == sum(each.hits for each in rows)
        assert counts.misses.sum() == sum(each.rows_fetched.miss for each in rows)
        assert counts.halo_hits.sum() == sum(each.halo_hits for each in rows)
        assert counts.halo_rows.sum() == sum(each.halo_rows for each in rows)
