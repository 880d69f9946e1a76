"""Policies, planners and trackers of installed packages are chosen by name, as Rudder's own are."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rudder.agents.replay.recorded_run import toolbox_of
from rudder.agents.team import check_models, planner_of
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.clock import run_simulated
from rudder.bench.simulated.run import simulate
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.cli.tracking import check_trackers
from rudder.memory.run.run_reader import RunReader
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.training.buffer.options import BufferOptions
from rudder.training.buffer.policy import Policy
from rudder.training.buffer.registry import make_policy
from rudder.training.config import run_config, write_config
from rudder.training.errors import ConfigError
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import SteeringOptions
from rudder.training.workload import OWN_POLICIES
from tests.agents.replay.conftest import replayed
from tests.training.buffer.player import Player, view_of

SETTINGS = BufferSettings(capacity_rows=4)
OPTIONS = SteeringOptions(planner="doubling:3")


@pytest.fixture
def installed(own_plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(own_plugins)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose plugins cannot be imported, fail, or return something else."""
    (tmp_path / "broken.py").write_text(
        "def fails(argument, facts): raise OSError('no room')\n"
        "def returns(argument, facts): return argument\n"
    )
    facts = tmp_path / "broken-2.5.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 2.5\n")
    names = ("absent=nowhere:x", "fails=broken:fails", "returns=broken:returns")
    points = "\n".join([*names, "lookahead=broken:fails", ""])
    groups = ("rudder.policies", "rudder.planners", "rudder.sinks")
    (facts / "entry_points.txt").write_text("".join(f"[{each}]\n{points}" for each in groups))
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("half_life", "kept"), [(10, {0, 1, 2, 3}), (1, {4, 5, 6, 7})])
def test_a_policy_of_a_package_gets_its_argument(half_life: int, kept: set[int]) -> None:
    policy = make_policy(f"faded:{half_life}", view_of(20), SETTINGS)
    player = Player(policy)
    often, once = np.arange(4), np.arange(4, 8)
    player.play([often, often, often, once], ahead=2)  # worth 0.875, half of it fades in a batch
    assert player.buffered == kept
    assert BufferOptions(policy="faded:7").policy_and_options[0] == "faded:7"


def steer(path: Path) -> None:
    """A simulated run with the package's policy and planner."""
    trainer = SimulatedTrainer(
        ZipfStream(600, 80, seed=1),
        settings=BufferSettings(capacity_rows=10, lookahead_batches=8),
        costs=Costs(row_ms=0.5),
        policy="faded:40",
    )
    with closing(SqliteJournal.open(path, memory=None)) as journal:
        run_simulated(simulate(trainer, windows=16, options=OPTIONS, journal=journal))


def test_decisions_of_a_package_are_made_again_where_it_is_installed(
    own_plugins: Path, tmp_path: Path
) -> None:
    path = tmp_path / "steering" / "rank0.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(own_plugins)
        steer(path)
        found = replayed(path)
    assert {each.episode.plan.planner for each in found} == {"own:doubling:3"}
    assert {each.result for each in found} == {"equal"}
    changes = [each.episode.plan for each in found if not each.episode.plan.change.is_empty]
    assert changes[0].change.capacity_rows == 30
    assert any(plan.expected is not None for plan in changes)  # by the package's own policy
    missing = {each.reason for each in replayed(path)}
    assert missing == {OWN_POLICIES.problem("faded:40")}
    assert "faded, is an entry point of rudder.policies" in str(missing)
    with RunReader(path) as reader, pytest.raises(ConfigError, match="faded"):
        toolbox_of(reader).whatif.effect(changes[0].change)


@pytest.mark.usefixtures("installed")
def test_a_run_names_the_packages_that_it_used(tmp_path: Path) -> None:
    config = run_config(policy="faded:40", planner="doubling", memory="none")
    write_config(config, tmp_path / "config.toml")
    assert run_config(tmp_path / "config.toml").policy == "faded:40"
    assert OWN_POLICIES.package("faded:40") == ("own-plugins", "0.1")
    assert config.steering is not None
    check_models(config.steering)
    assert planner_of(config.steering).name == "own:doubling"


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent", "No module named 'nowhere'"),
        ("fails", "OSError: no room"),
        ("returns:text", "returned str"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_refused_with_its_package(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"{says}.*\n.*mend broken 2.5"):
        make_policy(name, view_of(20), SETTINGS)
    with pytest.raises(ConfigError, match=f"{says}.*\n.*mend broken 2.5"):
        check_models(SteeringOptions(planner=name))
    if name == "absent":
        with pytest.raises(ConfigError, match=f"{says}.*\n.*mend broken 2.5"):
            check_trackers([name])


@pytest.mark.usefixtures("broken")
def test_no_package_takes_a_name_of_rudders_own() -> None:
    assert isinstance(make_policy("lookahead", view_of(20), SETTINGS), Policy)
    with pytest.raises(ConfigError, match="of installed packages absent, fails, returns"):
        run_config(policy="fadde")


@pytest.mark.parametrize("field", ["policy", "planner"])
@pytest.mark.parametrize("value", ["faded", "Faded", "faded:a b", "x" * 40])
def test_a_name_that_nobody_has_is_refused(field: str, value: str) -> None:
    given: dict[str, Any] = {field: value}
    with pytest.raises(ConfigError, match=f"{field} = '{value}' is not allowed"):
        run_config(**given)
