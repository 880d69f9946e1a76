"""Estimates of a run beside what real runs took."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from rudder.cli.main import make_app
from rudder.training.launch.plan import RunSize, plan

TINY = RunSize(
    num_nodes=20_000, num_edges=200_148, num_train=6_000, row_bytes=128, hosts=2,
    trainers_per_host=1, servers_per_host=1, fanout=(5, 10), batch_size=512, lookahead=16,
    halo_fraction=5_013 / 9_911, cut_fraction=0.0975,
)  # fmt: skip
COMMUNITY = replace(
    TINY, num_nodes=200_000, num_edges=4_000_042, num_train=60_000, row_bytes=512,
    halo_fraction=71_290 / 102_973, cut_fraction=0.1054,
)  # fmt: skip
REDDIT = replace(
    TINY, num_nodes=46_000, num_edges=9_200_000, num_train=30_360, row_bytes=2_408,
    halo_fraction=22_445 / 22_448, cut_fraction=0.103,
)  # fmt: skip
MEASURED = {  # bytes of /dev/shm and on disk, and MiB that a trainer had for itself
    "synthetic:tiny": (TINY, 4_446_000, 8_965_000, 392),
    "synthetic:community-200k": (COMMUNITY, 107_250_000, 222_245_000, 504),
    "synthetic:reddit-s": (REDDIT, 187_291_000, 366_880_000, 715),
}
"""`rudder train --dataset NAME --hosts 2`, looked at after some epochs."""


@pytest.mark.parametrize("name", MEASURED)
def test_memory_and_disk_are_near_what_real_runs_took(name: str) -> None:
    size, shared, disk, trainer_mib = MEASURED[name]
    found = plan(size)
    assert found.of("shared memory") == pytest.approx(shared, rel=0.03)
    assert 2 * found.disk_bytes == pytest.approx(disk, rel=0.05)
    assert found.of("trainer") / 2**20 == pytest.approx(trainer_mib, rel=0.1)


@pytest.mark.parametrize(
    ("size", "needed", "fetched"), [(TINY, 22_960, 11_962), (REDDIT, 219_387, 46_272)]
)
def test_rows_of_an_epoch_are_within_a_third_of_a_real_run(
    size: RunSize, needed: int, fetched: int
) -> None:
    """Rows that its two trainers needed, and fetched in the first epoch."""
    stock, first, later = plan(size).traffic
    row = size.row_bytes + 8
    assert stock.num_bytes / row == pytest.approx(needed / 2, rel=0.33)
    assert first.num_bytes / row == pytest.approx(fetched / 2, rel=0.33)
    assert later.num_bytes == 0


def test_smaller_buffer_takes_less_memory_and_more_of_the_link() -> None:
    small, whole = plan(replace(COMMUNITY, buffer_rows=10_000)), plan(COMMUNITY)
    assert whole.host_bytes - small.host_bytes == (COMMUNITY.remote - 10_000) * 512
    assert small.traffic[2].num_bytes > whole.traffic[2].num_bytes == 0
    assert small.traffic[2].seconds(1e9) == small.traffic[2].num_bytes * 8 / 1e9


def test_twice_the_trainers_take_twice_their_memory() -> None:
    one, two = plan(TINY), plan(replace(TINY, trainers_per_host=2))
    more = two.host_bytes - one.host_bytes
    assert more == pytest.approx(one.of("trainer"), rel=0.01)


def test_command_prints_memory_and_seconds_at_each_rate() -> None:
    words = ["plan", "--nodes", "111e6", "--edges", "3.2e9", "--hosts", "8", "--rates", "10gbit"]
    told = json.loads(CliRunner().invoke(make_app(["plan"]), [*words, "--json"]).stdout)
    assert told["host_bytes"] > 111e6 / 8 * 512
    assert set(told["seconds"]["without a buffer"]) == {"10gbit"}
    assert "records of remote nodes" in CliRunner().invoke(make_app(["plan"]), words).stdout


@pytest.mark.parametrize("wrong", [("--rates", "fast"), ("--fanout", "0"), ("--hosts", "0")])
def test_value_that_is_none_is_refused(wrong: tuple[str, str]) -> None:
    words = ["plan", "--nodes", "1e6", "--edges", "1e7", "--hosts", "2"]
    assert CliRunner().invoke(make_app(["plan"]), [*words, *wrong]).exit_code != 0
